"""An environment under check, and the calls of it that its checks share."""

from dataclasses import astuple
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from surefoot.checks import common
from surefoot.checks.problem import Problems, attempt, error, require
from surefoot.types import ActionSpace, Key, is_image, is_key

TASKS = 3
_EPISODES = 4
_LONGEST = 100
_SEED = 7
CONTRACT = "surefoot.envs.AbstractEnv"


ATTRIBUTES = {
    "observation_space": (
        "vector(size), image(height, width, channels), or a pytree of them, from surefoot.types",
        lambda x: bool(jax.tree.leaves(x)) and all(map(_is_form, jax.tree.leaves(x))),
        "Policies and baselines are built to it.",
    ),
    "action_space": (
        "Continuous(size), Discrete(n) or MultiDiscrete(counts)",
        lambda x: isinstance(x, ActionSpace) and all(map(common.is_count, np.ravel(*astuple(x)).tolist())),
        "The policy is built to it.",
    ),
    "horizon": (
        "an int of 1 or more, or 0 for no time limit",
        lambda x: common.is_count(x) or (isinstance(x, int) and x == 0 and not isinstance(x, bool)),
        "The sampler counts to it; without a time limit only streams are sampled.",
    ),
    "time_limit_ends_return": (*common.BOOL, "Returns end at the horizon, or go on with a value, by it."),
}


class Outcome(NamedTuple):
    """The fields of the `Step` that `step` returned, of any type."""

    state: Any
    observation: Any
    reward: Any
    terminated: Any


class Episodes(eqx.Module):
    """Random episodes, axes `[task episode time ...]`; the same keys and actions for every task."""

    start: tuple[PyTree, PyTree]
    """State and observation after the reset, without the time axis."""
    outcomes: Outcome
    valid: Array


class EnvCalls:
    """An environment, and the calls of its methods with fixed keys that its checks share. Every method may
    raise `Stop`."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.before = common.attributes(env)
        self.key = jax.random.key(_SEED)
        self.keys = jax.random.split(self.key, TASKS)

    def attribute(self, name: str) -> Any:
        """An attribute that is as the contract has it."""
        require(common.has_attribute(self.env, name, *ATTRIBUTES[name]))
        return getattr(self.env, name)

    def _call(self, name: str, *args: Any) -> Any:
        require(common.has_methods(self.env, [name], CONTRACT))
        return attempt(name, getattr(self.env, name), *args)

    def sample_tasks(self, key: Key, n: int) -> PyTree:
        """n tasks, as the environment gives them."""
        return self._call("sample_tasks", key, n)

    def reset(self, key: Key, task: PyTree) -> tuple[PyTree, Any]:
        """`reset`, whose result is a pair."""
        why = "The sampler takes a state and a first observation from it."
        result = self._call("reset", key, task)
        pair = common.elements("reset", result, 2, why, "Return (state, observation); the state may be None.")
        require(_foreign_leaves(pair[0], "reset", "state"))
        return pair

    def step(self, key: Key, state: PyTree, action: Array, task: PyTree) -> Outcome:
        """`step`, whose result has the fields of `Step`."""
        result, names = self._call("step", key, state, action, task), Outcome._fields
        why = "The sampler takes those from it by name."
        remedy = "Return surefoot.envs.Step(state, observation, reward, terminated)."
        require(common.has_fields("step", result, names, why, remedy))
        outcome = Outcome(*(getattr(result, name) for name in names))
        require(_foreign_leaves(outcome, "step", "Step"))
        return outcome

    def compiled(self, name: str, *args: Any) -> Any:
        """`reset` or `step` under jit."""
        return attempt(name, eqx.filter_jit(getattr(self, name)), *args)

    @cached_property
    def tasks(self) -> PyTree:
        """As many tasks as the kit needs."""
        tasks = self.sample_tasks(self.key, TASKS)
        require(common.all_arrays(tasks, "task"))
        require(axis_problems(tasks, TASKS))
        return tasks

    def task(self, i: int) -> PyTree:
        """The i-th of `tasks`."""
        return jax.tree.map(lambda x: x[i], self.tasks)

    @property
    def tasks_are_the_same(self) -> bool:
        """Whether all of `tasks` are equal."""
        return all(common.same(self.task(0), self.task(i)) for i in range(1, TASKS))

    @cached_property
    def action(self) -> Array:
        """A random action."""
        return common.random_actions(self.attribute("action_space"), self.key)

    @cached_property
    def start(self) -> tuple[PyTree, Any]:
        """State and observation after an eager reset to the first task."""
        return self.reset(self.keys[0], self.task(0))

    @cached_property
    def first(self) -> Outcome:
        """The outcome of one random action from `start`."""
        return self.step(self.keys[0], self.start[0], self.action, self.task(0))

    @property
    def episode_keys(self) -> Array:
        """The keys of the random episodes."""
        return jax.random.split(self.key, _EPISODES)

    def draws(self, key: Key) -> tuple[Key, Array, Array]:
        """The key of an episode's reset, and the keys and actions of its steps."""
        reset_key, action_key, step_key = jax.random.split(key, 3)
        steps = min(int(self.attribute("horizon")) or _LONGEST, _LONGEST)
        actions = common.random_actions(self.attribute("action_space"), action_key, (steps,))
        return reset_key, jax.random.split(step_key, steps), actions

    def episode(self, key: Key, task: PyTree) -> Episodes:
        """A random episode, without the axes of tasks and episodes."""
        reset_key, *steps = self.draws(key)

        def advance(carry: tuple[PyTree, Array], xs: list[Array]) -> tuple[Any, Any]:
            state, running = carry
            outcome = self.step(xs[0], state, xs[1], task)
            record = outcome._replace(terminated=outcome.terminated & running), running
            return (outcome.state, running & ~outcome.terminated), record

        start = self.reset(reset_key, task)
        _, (outcomes, valid) = jax.lax.scan(advance, (start[0], jnp.ones((), bool)), steps)
        return Episodes(start, outcomes, valid)


def axis_problems(tasks: PyTree, n: int) -> Problems:
    """Tasks that are not arrays with a leading axis of n."""
    if not jax.tree.leaves(tasks):
        yield error(
            "`sample_tasks` returns no arrays.",
            "Tasks are counted by their leading axis.",
            "A family of one task may return jnp.zeros((n, 0)).",
        )
    for name, leaf in common.leaves_with_names(tasks, "task"):
        if is_key(leaf):
            yield error(
                f"`sample_tasks(key, {n})` gives `{name}` as random keys.",
                "Tasks are NumPy arrays where environments are stepped from the host.",
                "Return jax.random.key_data(keys), and use jax.random.wrap_key_data(task) as the key.",
            )
        if leaf.shape[:1] != (n,):
            yield error(
                f"`sample_tasks(key, {n})` gives `{name}` as {common.describe(leaf)}, without a leading {n}.",
                "Tasks are vmapped over, one for each element of that axis.",
                "Put n first in the shape of every array, also when n is 1.",
            )


def _is_form(part: Any) -> bool:
    """Whether a part of an observation space is a vector or an image."""
    if isinstance(part, int):
        return common.is_count(part)
    if not isinstance(part, jax.ShapeDtypeStruct) or min(part.shape, default=0) < 1:
        return False
    return is_image(part) or (len(part.shape) == 1 and bool(jnp.issubdtype(part.dtype, jnp.floating)))


def _foreign_leaves(tree: PyTree, method: str, name: str) -> Problems:
    """Leaves that JAX can neither compile nor vmap over."""
    for leaf_name, leaf in common.leaves_with_names(tree, name):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
            yield error(
                f"`{method}` returns `{leaf_name}`, {common.describe(leaf)}.",
                "JAX can neither compile nor vmap over it.",
                "Build states of arrays only, in tuples, dicts, NamedTuples or equinox Modules.",
            )
