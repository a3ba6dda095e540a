"""A policy as its kit sees it: built for one action space, and asked about fixed observations."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.checks.common import describe, has_methods
from surefoot.checks.failure import attempt, problem_of
from surefoot.checks.problem import Problem, Stop, error, require
from surefoot.options import UserError
from surefoot.policies import AbstractRecurrentPolicy
from surefoot.types import ActionSpace, Continuous, Key

METHODS = ("sample", "mode", "log_prob", "entropy", "kl")
_BATCH = (2, 3)
_SEED = 7


class PolicyProbe:
    """Builds a policy with fixed keys. Every method may raise `Stop`."""

    def __init__(self, options: Any, observation_size: int, space: ActionSpace) -> None:
        self.options, self.observation_size, self.space = options, observation_size, space
        self.key = jax.random.key(_SEED)
        self.rows = jax.random.normal(self.key, (*_BATCH, observation_size))
        self.row = self.rows[0, 0]

    def build(self, key: Key) -> Any:
        """A policy, which can be called."""
        return self.call("build", self.options.build, key, self.observation_size, self.space)

    @cached_property
    def policy(self) -> Any:
        """The policy under check."""
        return self.build(self.key)

    @cached_property
    def other(self) -> Any:
        """A policy of the same kind, whose parameters differ a little."""
        arrays, static = eqx.partition(self.policy, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(arrays)
        keys = jax.random.split(self.key, len(leaves) + 1)
        moved = [x + 0.1 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=False)]
        return eqx.combine(jax.tree.unflatten(structure, moved), static)

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, its exceptions turned to problems."""
        return attempt(name, function, *args)

    def parameters(self, policy: Any) -> PyTree:
        """The floating-point arrays."""
        return eqx.filter(policy, eqx.is_inexact_array)

    def distribution(self, observations: Array, policy: Any = None) -> Any:
        """Over the actions at `observations`; it has all the methods of one."""
        result = self.predict(observations, policy)
        require(self.lacks(result))
        return result

    def predict(self, observations: Array, policy: Any = None) -> Any:
        """What the policy makes of `observations`; one that remembers takes them for first steps."""
        policy = self.policy if policy is None else policy
        if not isinstance(policy, AbstractRecurrentPolicy):
            return self.call("__call__", policy, observations)
        return self.act(policy, observations, self.fresh_memory(policy, observations.shape[:-1]))[0]

    def fresh_memory(self, policy: AbstractRecurrentPolicy, batch: tuple[int, ...]) -> PyTree:
        """That of so many episodes before their first step."""
        memory = self.call("initial_memory", policy.initial_memory)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, *jnp.shape(x))), memory)

    def act(self, policy: AbstractRecurrentPolicy, observations: Array, memory: PyTree) -> tuple[Any, PyTree]:
        """`act`, whose result is a pair."""
        pair: Any = self.call("act", policy.act, observations, memory)
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise Stop(_not_a_pair(pair))
        return pair

    def lacks(self, distribution: Any) -> Iterator[Problem]:
        """Which methods of a distribution are missing."""
        contract = "surefoot.theory.distributions.AbstractDistribution"
        yield from has_methods(distribution, METHODS, contract)

    @cached_property
    def misfits(self) -> tuple[Problem, ...]:
        """Samples and modes that are no actions of the space."""
        return tuple(
            _misfit(name, observations, action, wanted, self.space)
            for observations in (self.row, self.rows)
            for name in ("sample", "mode")
            for action in [self.draw(self.distribution(observations), name)]
            for wanted in [self.like_actions(observations.shape[:-1])]
            if describe(action) != describe(wanted)
        )

    def draw(self, distribution: Any, name: str) -> Array:
        """A sample, or the mode."""
        arguments = (self.key,) if name == "sample" else ()
        return self.call(name, getattr(distribution, name), *arguments)

    def samples(self, n: int) -> Array:
        """n actions at `row`, with a leading axis; of the form that the space asks for."""
        require(self.misfits)
        distribution = self.distribution(self.row)
        return self.call("sample", jax.vmap(distribution.sample), jax.random.split(self.key, n))

    def like_actions(self, batch: tuple[int, ...]) -> Array:
        """An array of the form that actions must have."""
        if isinstance(self.space, Continuous):
            return jnp.zeros((*batch, self.space.size))
        return jnp.zeros(batch, jnp.int32)

    def scores(self, observations: Array, policy: Any = None) -> dict[str, Array]:
        """log_prob of the mode, entropy, and kl to another policy."""
        require(self.misfits)
        here, there = self.distribution(observations, policy), self.distribution(observations, self.other)
        return {
            "log_prob": self.call("log_prob", here.log_prob, self.draw(here, "mode")),
            "entropy": self.call("entropy", here.entropy),
            "kl": self.call("kl", here.kl, there),
        }

    def stacked_scores(self, observations: Array) -> dict[str, Array]:
        """`scores` of the policy and of the other, compiled and vmapped, with a leading axis."""
        policies = jax.tree.map(
            lambda a, b: jnp.stack([a, b]) if eqx.is_array(a) else a, self.policy, self.other
        )
        scores = eqx.filter_jit(eqx.filter_vmap(lambda policy: self.scores(observations, policy)))
        return self.call("__call__", scores, policies)

    def gradient(self) -> PyTree:
        """Of the mean log_prob of sampled actions, in the parameters."""
        require(self.misfits)
        actions = self.draw(self.distribution(self.rows), "sample")

        def mean_log_prob(policy: Any) -> Array:
            return jnp.mean(self.distribution(self.rows, policy).log_prob(actions))

        return self.call("log_prob", eqx.filter_grad(mean_log_prob), self.policy)


def built(options: Any, observation_size: int, space: ActionSpace) -> Any:
    """The policy; None if the options refuse the space as they should; a problem if they fail."""
    try:
        policy = options.build(jax.random.key(_SEED), observation_size, space)
    except UserError:
        return None
    except Exception as failed:
        return _refuse_properly(problem_of("build", failed, options.build), space)
    if callable(policy):
        return policy
    return error(
        f"`build` returns {describe(policy)}, which cannot be called.",
        "A policy maps observations to a distribution.",
        "Return an equinox Module with a method __call__(self, observations).",
    )


def _refuse_properly(problem: Problem, space: ActionSpace) -> Problem:
    return error(
        f"For {space!r}: {problem.what}",
        problem.why,
        f"{problem.remedy} To refuse an action space, raise surefoot.options.UserError.",
    )


def _misfit(name: str, observations: Array, action: Any, wanted: Array, space: ActionSpace) -> Problem:
    return error(
        f"For {describe(observations)} observations, `{name}` gives {describe(action)} actions; "
        f"for {space!r} they must be {describe(wanted)}.",
        "Environments take the actions as they are.",
        "Refuse this action space in `build` with a UserError, or draw actions of that form.",
    )


def _not_a_pair(result: Any) -> Problem:
    return error(
        f"`act` returns a {type(result).__name__}, not a pair.",
        "The sampler takes a distribution and the memory for the next step from it.",
        "Return (distribution, memory).",
    )
