"""The contract kit of environments."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from surefoot.checks import common
from surefoot.checks.problem import Problem, Problems, Stop, attempt, collect, error, require, warning
from surefoot.types import ActionSpace, Continuous, Discrete, Key, as_space, is_image, is_key

_TASKS = 3
_EPISODES = 4
_LONGEST = 100
_EXTREME = 1e6
_SEED = 7
_CONTRACT = "surefoot.envs.AbstractEnv"


_ATTRIBUTES = {
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


def check_env(env: Any) -> list[Problem]:
    """All ways in which `env` breaks the contract of `envs.AbstractEnv`; an empty list if it is sound.

    It need not be a subclass here; training takes no other. Its methods are called with a few tasks, eagerly,
    compiled and vmapped, in a few episodes of at most 100 steps with random actions. An exception in its code
    is reported, not raised.
    """
    return common.is_class(env, "an environment") or collect(EnvChecks(env))


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


class EnvChecks:
    """The checks of an environment, and the calls of its methods with fixed keys that they share. Every
    method may raise `Stop`."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.before = common.attributes(env)
        self.key = jax.random.key(_SEED)
        self.keys = jax.random.split(self.key, _TASKS)

    def attribute(self, name: str) -> Any:
        """An attribute that is as the contract has it."""
        require(common.has_attribute(self.env, name, *_ATTRIBUTES[name]))
        return getattr(self.env, name)

    def _call(self, name: str, *args: Any) -> Any:
        require(common.has_methods(self.env, [name], _CONTRACT))
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
        tasks = self.sample_tasks(self.key, _TASKS)
        require(common.all_arrays(tasks, "task"))
        require(_axis_problems(tasks, _TASKS))
        return tasks

    def task(self, i: int) -> PyTree:
        """The i-th of `tasks`."""
        return jax.tree.map(lambda x: x[i], self.tasks)

    @property
    def tasks_are_the_same(self) -> bool:
        """Whether all of `tasks` are equal."""
        return all(common.same(self.task(0), self.task(i)) for i in range(1, _TASKS))

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

    @cached_property
    def episodes(self) -> Episodes:
        """A few random episodes of every task, in one compiled program."""
        for check in (self.check_reset_returns, self.check_step_returns, self.check_state_keeps_its_form):
            require(check())
        episodes = jax.vmap(jax.vmap(self._episode, (0, None)), (None, 0))
        return attempt("step", eqx.filter_jit(episodes), self.episode_keys, self.tasks)

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

    def _episode(self, key: Key, task: PyTree) -> Episodes:
        reset_key, *steps = self.draws(key)

        def advance(carry: tuple[PyTree, Array], xs: list[Array]) -> tuple[Any, Any]:
            state, running = carry
            outcome = self.step(xs[0], state, xs[1], task)
            record = outcome._replace(terminated=outcome.terminated & running), running
            return (outcome.state, running & ~outcome.terminated), record

        start = self.reset(reset_key, task)
        _, (outcomes, valid) = jax.lax.scan(advance, (start[0], jnp.ones((), bool)), steps)
        return Episodes(start, outcomes, valid)

    def check_attributes(self) -> Problems:
        for name, wanted in _ATTRIBUTES.items():
            yield from common.has_attribute(self.env, name, *wanted)

    def check_methods(self) -> Problems:
        yield from common.has_methods(self.env, ("sample_tasks", "reset", "step"), _CONTRACT)

    def check_immutable(self) -> Problems:
        yield from common.is_immutable(self.env)

    def check_tasks_have_a_leading_axis(self) -> Problems:
        yield from common.all_arrays(self.sample_tasks(self.key, _TASKS), "task")
        for n in (_TASKS, 1):  # traced and not compiled, which can be slow
            yield from _axis_problems(jax.eval_shape(lambda key, n=n: self.sample_tasks(key, n), self.key), n)

    def check_tasks_follow_the_key(self) -> Problems:
        tasks, others = self.tasks, self.sample_tasks(jax.random.fold_in(self.key, 1), _TASKS)
        if all(leaf.size == 0 for leaf in jax.tree.leaves(tasks)) or not common.same(tasks, others):
            return
        if self.tasks_are_the_same:
            yield warning(
                "All tasks of the family are the same.",
                "There is nothing to adapt to.",
                "Draw the differences from the key; a family of one task may return jnp.zeros((n, 0)).",
            )
        else:
            yield error(
                "`sample_tasks` gives the same tasks for different keys.",
                "Training would meet the same few tasks at every iteration, and evaluation too.",
                "Draw the tasks with the key: jax.random.uniform(key, (n, ...)).",
            )

    def check_reset_returns(self) -> Problems:
        state, observation = self.start
        yield from common.all_arrays(state, "state")
        yield from self._observation_problems("reset", observation)

    def check_step_returns(self) -> Problems:
        yield from self._observation_problems("step", self.first.observation)
        yield from _array_problems("step", "reward", self.first.reward, jnp.zeros(()))
        yield from _array_problems("step", "terminated", self.first.terminated, jnp.zeros((), bool))

    def _observation_problems(self, method: str, observation: Any) -> Problems:
        wanted = as_space(self.attribute("observation_space"))
        if jax.tree.structure(observation) != jax.tree.structure(wanted):
            yield error(
                f"`{method}` returns the observation {jax.tree.structure(observation)}, and its space is "
                f"{jax.tree.structure(wanted)}.",
                "Policies are built for the parts that the space names.",
                "Give both the same form: an array, or the same dictionary or tuple of arrays.",
            )
            return
        names = common.leaves_with_names(observation, "observation")
        for (name, leaf), form in zip(names, jax.tree.leaves(wanted), strict=True):
            yield from _array_problems(method, name, leaf, form)

    def check_state_keeps_its_form(self) -> Problems:
        why = "The state is carried through a compiled loop, where its form is fixed."
        yield from common.same_form(self.start[0], self.first.state, "state", why)

    def check_sample_tasks_is_pure(self) -> Problems:
        yield from self._is_pure("sample_tasks", self.tasks, self.sample_tasks, self.key, _TASKS)

    def check_reset_is_pure(self) -> Problems:
        yield from self._is_pure("reset", self.start, self.reset, self.keys[0], self.task(0))

    def check_step_is_pure(self) -> Problems:
        arguments = self.keys[0], self.start[0], self.action, self.task(0)
        yield from self._is_pure("step", self.first, self.step, *arguments)

    def _is_pure(self, name: str, first: Any, method: Callable[..., Any], *arguments: Any) -> Problems:
        if not common.same(first, method(*arguments)):
            yield error(
                f"`{name}` gives different results for the same arguments.",
                "Runs could not be repeated, and under jit the first result would be kept for ever.",
                "Take all randomness from the key with jax.random, and all memory from the state.",
            )
        elif name != "sample_tasks" and not common.close(first, self.compiled(name, *arguments)):
            yield error(
                f"`{name}` gives other results under jit than without.",
                "Training runs under jit, and would see another environment than you do.",
                "Take all that varies from the arguments: not from globals, np.random or the time.",
            )

    def check_maps_over_tasks(self) -> Problems:
        task = self.task(_TASKS - 1)
        reset_key, step_keys, actions = self.draws(self.episode_keys[0])
        start = self.reset(reset_key, task)
        outcome = self.step(step_keys[0], start[0], actions[0], task)
        # NumPy takes rows without compiling; random keys stay JAX's.
        episodes = jax.tree.map(lambda x: x if is_key(x) else np.asarray(x), self.episodes)
        row = jax.tree.map(lambda x: x[-1, 0], episodes)
        first = jax.tree.map(lambda x: x[0], row.outcomes)
        if not common.close((row.start, first), (start, outcome)):
            yield error(
                "An episode side by side with those of other tasks differs from the same episode by itself.",
                "Tasks and episodes are vmapped over.",
                "Write `reset` and `step` for one task and one episode, without an axis for many.",
            )

    def check_stays_finite(self) -> Problems:
        valid, outcomes = np.asarray(self.episodes.valid), self.episodes.outcomes
        for name, values in {"observations": outcomes.observation, "rewards": outcomes.reward}.items():
            if not common.finite(jax.tree.map(lambda x: np.asarray(x)[valid], values)):
                yield error(
                    f"Among the {name} of random episodes there are NaN or infinite values.",
                    "One of them is enough to spoil the policy for good.",
                    "Look for a division by zero, the root or logarithm of a negative number, or growth.",
                )

    def check_survives_extreme_actions(self) -> Problems:
        space = self.attribute("action_space")
        if isinstance(space, Continuous):
            actions = [jnp.full(space.size, x) for x in (_EXTREME, -_EXTREME)]
        else:
            largest = space.n - 1 if isinstance(space, Discrete) else np.array(space.counts) - 1
            actions = [jnp.zeros(space.shape, jnp.int32), jnp.asarray(largest, jnp.int32)]
        for action in actions:
            outcome = self.step(self.keys[0], self.start[0], action, self.task(0))
            if not common.finite((outcome.observation, outcome.reward)):
                yield error(
                    f"The action {np.asarray(action).tolist()} leads to NaN or infinite values.",
                    "Actions come as the policy draws them, unclipped; a Gaussian has no bounds.",
                    "Clip the action in `step`, for example with jnp.clip(action, -1.0, 1.0).",
                )

    def check_depends_on_the_task(self) -> Problems:
        if self.tasks_are_the_same:
            return
        outcomes = self.episodes.outcomes
        seen = outcomes.observation, outcomes.reward, outcomes.terminated, self.episodes.valid
        if all(common.same(x[0], x[i]) for x in jax.tree.leaves(seen) for i in range(1, _TASKS)):
            yield warning(
                "Observations, rewards and ends of random episodes do not depend on the task.",
                "Then there is nothing to adapt to; often the goal was left in an attribute.",
                "Take the goal from the `task` argument of `reset` and `step`.",
            )

    def check_leaves_the_time_limit_to_the_sampler(self) -> Problems:
        terminated = np.asarray(self.episodes.outcomes.terminated)
        if not 1 < terminated.shape[-1] == self.env.horizon:
            return
        if terminated[..., -1].all() and not terminated[..., :-1].any():
            yield warning(
                "Every random episode terminates at the horizon, and none before.",
                "A time limit reported as termination makes the value after it zero, whatever the agent did.",
                "Set `terminated` in terminal states only; the sampler counts to the horizon itself.",
            )

    def check_keeps_no_state(self) -> Problems:
        with suppress(Stop):
            self.step(self.keys[0], self.start[0], self.action, self.task(0))
        yield from common.keeps_no_state(self.before, self.env)


def _axis_problems(tasks: PyTree, n: int) -> Problems:
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


def _array_problems(method: str, name: str, x: Any, wanted: Array | jax.ShapeDtypeStruct) -> Problems:
    yield from common.has_form(
        f"`{method}` returns `{name}` as",
        x,
        wanted,
        "Samplers, policies and estimates of the return are made for arrays of that shape and dtype.",
        f"Give it that shape; jnp.asarray(x, dtype) converts it, with dtype {wanted.dtype}.",
    )


def _foreign_leaves(tree: PyTree, method: str, name: str) -> Problems:
    """Leaves that JAX can neither compile nor vmap over."""
    for leaf_name, leaf in common.leaves_with_names(tree, name):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
            yield error(
                f"`{method}` returns `{leaf_name}`, {common.describe(leaf)}.",
                "JAX can neither compile nor vmap over it.",
                "Build states of arrays only, in tuples, dicts, NamedTuples or equinox Modules.",
            )
