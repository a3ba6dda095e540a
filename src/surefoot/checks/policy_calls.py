"""A policy under check, and the calls of it that its checks share."""

from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.checks import common
from surefoot.checks.problem import Problem, Problems, Stop, attempt, error, problem_of, require
from surefoot.loading import FAILURES
from surefoot.options import UserError
from surefoot.types import ActionSpace, Continuous, Observations, ObservationSpace

BATCH = (2, 3)
_SEED = 7


class PolicyCalls:
    """A policy for one action space, and the calls with fixed keys and observations that its checks share.
    Every method may raise `Stop`."""

    def __init__(self, options: Any, observation_space: ObservationSpace, space: ActionSpace) -> None:
        self.options, self.observation_space, self.space = options, observation_space, space
        self.key = jax.random.key(_SEED)
        self.rows = common.random_observations(observation_space, self.key, BATCH)
        self.row = self.at(0, 0)
        self.refusal = ""
        """The message of `build` where it refused the space."""

    def at(self, *index: Any) -> Observations:
        """A part of `rows`."""
        return jax.tree.map(lambda x: x[index], self.rows)

    @property
    def each(self) -> tuple[tuple[Observations, tuple[int, ...], str], ...]:
        """One observation, and a batch of them: the observations, the axes of the batch, and their form."""
        pairs = (self.row, ()), (self.rows, BATCH)
        return tuple((x, axes, ", ".join(map(common.describe, jax.tree.leaves(x)))) for x, axes in pairs)

    def build(self) -> Any:
        """A new policy, always with the same key."""
        return self.options.build(self.key, self.observation_space, self.space)

    @cached_property
    def built(self) -> Any:
        """The policy; None if the options refuse the space as they should; a problem if they fail."""
        try:
            policy = self.build()
        except UserError as refused:
            self.refusal = str(refused)
            return None
        except FAILURES as failed:
            problem = problem_of("build", failed, self.options.build)
            remedy = f"{problem.remedy} To refuse an action space, raise surefoot.options.UserError."
            return error(f"For {self.space!r}: {problem.what}", problem.why, remedy)
        if callable(policy):
            return policy
        return error(
            f"`build` returns {common.describe(policy)}, which cannot be called.",
            "A policy maps observations to a distribution.",
            "Return an equinox Module with a method __call__(self, observations).",
        )

    @property
    def policy(self) -> Any:
        """The policy under check."""
        if isinstance(self.built, Problem):
            raise Stop(self.built)
        return self.built

    @cached_property
    def other(self) -> Any:
        """A policy of the same kind, whose parameters differ a little."""
        arrays, static = eqx.partition(self.policy, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(arrays)
        keys = jax.random.split(self.key, len(leaves) + 1)
        moved = [x + 0.1 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=False)]
        return eqx.combine(jax.tree.unflatten(structure, moved), static)

    @property
    def is_recurrent(self) -> bool:
        """Whether the policy says that it is recurrent; one that says nothing is not."""
        return getattr(self.policy, "is_recurrent", False) is True

    @property
    def predicts_values(self) -> bool:
        """Whether the policy says that it predicts values; one that says nothing does not."""
        return getattr(self.policy, "predicts_values", False) is True

    def predict(self, policy: Any, observations: Observations, axes: tuple[int, ...]) -> Any:
        """The policy's prediction at a batch of observations with these axes, which are first steps if it is
        recurrent."""
        if not self.is_recurrent:
            return attempt("__call__", policy, observations)
        return self.act(policy, observations, self.fresh_memory(policy, axes))[0]

    def distribution(self, policy: Any, observations: Observations, axes: tuple[int, ...]) -> Any:
        """`predict`, whose result has all the methods of a distribution."""
        result = self.predict(policy, observations, axes)
        require(lacks(result))
        return result

    def fresh_memory(self, policy: Any, batch: tuple[int, ...]) -> PyTree:
        """The memory of a batch of episodes before their first step."""
        memory = attempt("initial_memory", policy.initial_memory)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, *jnp.shape(x))), memory)

    def act(self, policy: Any, observations: Observations, memory: PyTree) -> tuple[Any, PyTree]:
        """`act`, whose result is a pair."""
        why = "The sampler takes a distribution and the memory for the next step from it."
        result = attempt("act", policy.act, observations, memory)
        return common.elements("act", result, 2, why, "Return (distribution, memory).")

    def draw(self, distribution: Any, name: str) -> Array:
        """A sample, or the mode."""
        return attempt(name, getattr(distribution, name), *((self.key,) if name == "sample" else ()))

    @cached_property
    def misfits(self) -> tuple[Problem, ...]:
        """Samples and modes that are no actions of the space."""
        dtype = jnp.zeros(()).dtype if isinstance(self.space, Continuous) else jnp.int32
        found = []
        for observations, axes, form in self.each:
            distribution = self.distribution(self.policy, observations, axes)
            for name in ("sample", "mode"):
                found += common.has_form(
                    f"For {form} observations and {self.space!r}, `{name}` gives",
                    self.draw(distribution, name),
                    jax.ShapeDtypeStruct((*axes, *self.space.shape), dtype),
                    "Environments take the actions as they are.",
                    "Refuse this action space in `build` with a UserError, or draw actions of that form.",
                )
        return tuple(found)


def lacks(distribution: Any) -> Problems:
    """The methods of a distribution that are missing."""
    methods = ("sample", "noise", "sample_from", "mode", "log_prob", "entropy", "kl")
    yield from common.has_methods(distribution, methods, "surefoot.theory.distributions.AbstractDistribution")
