"""A sampler as its kit sees it: a few tasks of its environment, each with its own policy."""

from collections.abc import Iterator
from concurrent.futures import Future
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.checks.common import describe
from surefoot.checks.failure import attempt
from surefoot.checks.problem import Problem, Stop, error, require
from surefoot.policies import AbstractPolicy, CategoricalMLP, GaussianMLP
from surefoot.types import Continuous, Key, Rollout

TASKS = 3
_SEED = 7
_FIELDS = (
    "observations",
    "actions",
    "log_probs",
    "rewards",
    "terminated",
    "truncated",
    "valid",
    "next_observations",
    "times",
)


class FailingPolicy(AbstractPolicy):
    """Raises whenever it is asked for an action."""

    parameter: Array

    def __call__(self, observations: Array) -> Any:
        raise RuntimeError(f"this policy fails, to see where the exception goes {observations.shape}")


class SamplerProbe:
    """Samples with fixed keys. Every method may raise `Stop`."""

    def __init__(self, sampler: Any, policy: AbstractPolicy | None, timeout: float) -> None:
        self.sampler, self.timeout = sampler, timeout
        self.key = jax.random.key(_SEED)
        self.given = policy

    @cached_property
    def policy(self) -> AbstractPolicy:
        """The policy of which every task has a variant."""
        if self.given is not None:
            return self.given
        env = self.sampler.env
        options = GaussianMLP if isinstance(env.action_space, Continuous) else CategoricalMLP
        return options(hidden=(8,)).build(self.key, env.observation_size, env.action_space)

    @cached_property
    def policies(self) -> AbstractPolicy:
        """One for each task, with some noise on the parameters."""
        keys = jax.random.split(self.key, TASKS)

        def vary(x: Any) -> Any:
            if not eqx.is_inexact_array(x):
                return jnp.broadcast_to(x, (TASKS, *x.shape)) if eqx.is_array(x) else x
            return x + 0.1 * jax.vmap(lambda k: jax.random.normal(k, x.shape, x.dtype))(keys)

        return jax.tree.map(vary, self.policy)

    @cached_property
    def tasks(self) -> PyTree:
        """Tasks of the sampler's environment."""
        return attempt("env.sample_tasks", self.sampler.env.sample_tasks, self.key, TASKS)

    def task(self, i: int) -> PyTree:
        """The i-th of `tasks`."""
        return _row(self.tasks, i)

    def sample(self, n: int, key: Key) -> Rollout:
        """The first n tasks, each with its policy."""
        policies, tasks = (_rows(x, n) for x in (self.policies, self.tasks))
        return _rollout("sample", attempt("sample", self.sampler.sample, policies, tasks, key))

    def sample_alike(self) -> Rollout:
        """One and the same task, with one and the same policy."""
        policies, tasks = (
            jax.tree.map(lambda x: jnp.stack([x[0]] * TASKS) if eqx.is_array(x) else x, tree)
            for tree in (self.policies, self.tasks)
        )
        return _rollout("sample", attempt("sample", self.sampler.sample, policies, tasks, self.key))

    @cached_property
    def sampled(self) -> Rollout:
        """All tasks; its arrays have the right form."""
        require(self.form_problems())
        return self._first

    def form_problems(self) -> Iterator[Problem]:
        """What is wrong with the arrays that `sample` returns."""
        yield from self._form_problems("sample", self._first, (TASKS,))

    def collected_form_problems(self) -> Iterator[Problem]:
        """What is wrong with the arrays that `collect` returns."""
        yield from self._form_problems("collect", self.collect()[1], ())

    def _form_problems(self, method: str, rollout: Rollout, leading: tuple[int, ...]) -> Iterator[Problem]:
        for name, wanted in self._wanted(rollout, leading).items():
            found = getattr(rollout, name)
            if describe(found) != describe(wanted):
                axes = "[task episode time ...]" if leading else "[episode time ...]"
                yield error(
                    f"`{method}` gives `{name}` as {describe(found)}; it must be {describe(wanted)}.",
                    f"Axes are {axes}, padded to a common length of at most the horizon.",
                    "Give the array these axes, and this dtype.",
                )

    @cached_property
    def start(self) -> PyTree:
        """Where the first batch of the first task begins."""
        arguments = _row(self.policies, 0), self.task(0), self.key
        return attempt("start", self.sampler.start, *arguments)

    def collect(self) -> tuple[PyTree, Rollout]:
        """The first batch of the first task, and where the next begins."""
        arguments = _row(self.policies, 0), self.task(0), self.start, self.key
        pair = attempt("collect", self.sampler.collect, *arguments)
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise Stop(_not_a_pair(pair))
        return pair[0], _rollout("collect", pair[1])

    def submitted(self, i: int) -> Rollout:
        """What `submit` gives for task i."""
        key = jax.random.fold_in(self.key, i)
        future = attempt("submit", self.sampler.submit, _row(self.policies, i), self.task(i), key)
        if not isinstance(future, Future):
            raise Stop(_not_a_future(future))
        return _rollout("submit", attempt("submit", future.result, self.timeout))

    @cached_property
    def _first(self) -> Rollout:
        return self.sample(TASKS, self.key)

    def _wanted(self, rollout: Rollout, leading: tuple[int, ...]) -> dict[str, Any]:
        env = self.sampler.env
        steps = min(jnp.shape(rollout.valid)[-1] if jnp.ndim(rollout.valid) else 0, env.horizon)
        axes = (*leading, self.sampler.episodes, steps)
        continuous = isinstance(env.action_space, Continuous)
        shape = (*axes, env.action_space.size) if continuous else axes
        flags = dict.fromkeys(("terminated", "truncated", "valid"), jax.ShapeDtypeStruct(axes, bool))
        floats = {
            "observations": (*axes, env.observation_size),
            "log_probs": axes,
            "rewards": axes,
            "next_observations": (*axes, env.observation_size),
        }
        dtype = jnp.zeros(()).dtype
        integers = {"times": jax.ShapeDtypeStruct(axes, jnp.zeros((), int).dtype)}
        actions = jax.ShapeDtypeStruct(shape, dtype if continuous else jnp.int32)
        wanted = {name: jax.ShapeDtypeStruct(axes, dtype) for name, axes in floats.items()}
        return wanted | flags | integers | {"actions": actions}


def _rollout(method: str, result: Any) -> Rollout:
    missing = [name for name in _FIELDS if not hasattr(result, name)]
    if missing:
        raise Stop(
            error(
                f"`{method}` gives a {type(result).__name__}, which has no {', '.join(missing)}.",
                "Advantages are estimated from a Rollout.",
                "Return surefoot.types.Rollout.",
            )
        )
    return result


def _row(tree: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda x: x[i] if eqx.is_array(x) else x, tree)


def _rows(tree: PyTree, n: int) -> PyTree:
    return jax.tree.map(lambda x: x[:n] if eqx.is_array(x) else x, tree)


def _not_a_future(result: Any) -> Problem:
    return error(
        f"`submit` returns a {type(result).__name__}, not a concurrent.futures.Future.",
        "Callers wait on it, and await it from asyncio.",
        "Return a Future, finished or not.",
    )


def _not_a_pair(result: Any) -> Problem:
    return error(
        f"`collect` returns a {type(result).__name__}, not a pair.",
        "Algorithms take the next batch's beginning and this batch from it.",
        "Return (where, rollout); `where` may be None.",
    )
