"""An environment as its kit sees it: its methods called and remembered, their faults turned to problems."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.checks.common import (
    all_arrays,
    attributes,
    describe,
    has_methods,
    random_actions,
    same_form,
)
from surefoot.checks.env_returns import (
    ATTRIBUTES,
    Outcome,
    attribute_problems,
    axis_problems,
    foreign_leaves,
    not_a_pair,
    not_a_step,
    wrong_array,
)
from surefoot.checks.failure import attempt
from surefoot.checks.problem import Problem, Stop, require
from surefoot.types import ActionSpace, Key

TASKS = 3
METHODS = ("sample_tasks", "reset", "step")
_EPISODES = 4
_LONGEST = 100
_SEED = 7


class Episodes(eqx.Module):
    """Random episodes, axes `[task episode time ...]`; the same keys and actions for every task."""

    observations: Array
    rewards: Array
    terminated: Array
    valid: Array


class EnvProbe:
    """Calls an environment's methods with fixed keys. Every property may raise `Stop`."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.before = attributes(env)
        self.key = jax.random.key(_SEED)

    def attribute_problems(self) -> Iterator[Problem]:
        """What is wrong with the attributes that are not methods."""
        for wanted in ATTRIBUTES.values():
            yield from attribute_problems(self.env, wanted)

    def method_problems(self, *names: str) -> Iterator[Problem]:
        """Which of the methods are missing."""
        yield from has_methods(self.env, names or METHODS, "surefoot.envs.AbstractEnv")

    def _method(self, name: str) -> Callable[..., Any]:
        require(self.method_problems(name))
        return getattr(self.env, name)

    @cached_property
    def space(self) -> ActionSpace:
        """The action space."""
        require(attribute_problems(self.env, ATTRIBUTES["action_space"]))
        return self.env.action_space

    @cached_property
    def length(self) -> int:
        """Of the random episodes."""
        require(attribute_problems(self.env, ATTRIBUTES["horizon"]))
        return min(int(self.env.horizon), _LONGEST)

    def sample_tasks(self, key: Key, n: int) -> PyTree:
        """n tasks, as the environment gives them."""
        return attempt("sample_tasks", self._method("sample_tasks"), key, n)

    def task_problems(self, n: int) -> Iterator[Problem]:
        """What is wrong with the form of n tasks, drawn under jit (but not compiled: that can be slow)."""
        traced = jax.eval_shape(lambda key: self.sample_tasks(key, n), self.key)
        yield from axis_problems(traced, n)

    @cached_property
    def tasks(self) -> PyTree:
        """As many tasks as the kit plays."""
        tasks = self.sample_tasks(self.key, TASKS)
        require(all_arrays(tasks, "task"))
        require(axis_problems(tasks, TASKS))
        return tasks

    @cached_property
    def keys(self) -> Array:
        """One for each task."""
        return jax.random.split(self.key, TASKS)

    def task(self, i: int) -> PyTree:
        """The i-th of `tasks`."""
        return jax.tree.map(lambda x: x[i], self.tasks)

    @cached_property
    def action(self) -> Array:
        """A random action."""
        return random_actions(self.space, self.key)

    @cached_property
    def start(self) -> tuple[PyTree, Any]:
        """State and observation after an eager reset to the first task."""
        return self.reset(self.keys[0], self.task(0))

    @cached_property
    def first(self) -> Outcome:
        """What one random action leads to from `start`."""
        return self.step(self.keys[0], self.start[0], self.action, self.task(0))

    def reset(self, key: Key, task: PyTree) -> tuple[PyTree, Any]:
        """`reset`, whose result is a pair."""
        pair = attempt("reset", self._method("reset"), key, task)
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise Stop(not_a_pair(pair))
        require(foreign_leaves(pair[0], "reset", "state"))
        return pair

    def step(self, key: Key, state: PyTree, action: Array, task: PyTree) -> Outcome:
        """`step`, whose result has the fields of `Step`."""
        result = attempt("step", self._method("step"), key, state, action, task)
        if not all(hasattr(result, name) for name in Outcome._fields):
            raise Stop(not_a_step(result))
        outcome = Outcome(*(getattr(result, name) for name in Outcome._fields))
        require(foreign_leaves(outcome, "step", "Step"))
        return outcome

    def compiled(self, name: str, *args: Any) -> Any:
        """`reset` or `step` under jit."""
        return attempt(name, eqx.filter_jit(getattr(self, name)), *args)

    def vmapped(self, name: str, *args: Any) -> Any:
        """`reset` or `step` of many at once, under jit."""
        return attempt(name, eqx.filter_jit(jax.vmap(getattr(self, name))), *args)

    def form_problems(self) -> Iterator[Problem]:
        """Whether the state looks the same after every step: it is carried through a loop."""
        why = "The state is carried through a compiled loop, where its form is fixed."
        yield from same_form(self.start[0], self.first.state, "state", why)

    def output_problems(self) -> Iterator[Problem]:
        """What is wrong with the arrays that `reset` and `step` return."""
        yield from self.reset_problems()
        yield from self.step_problems()

    def reset_problems(self) -> Iterator[Problem]:
        """What is wrong with the arrays that `reset` returns."""
        state, observation = self.start
        yield from all_arrays(state, "state")
        yield from self._float_problems("reset", "observation", observation, self._observation_shape)

    def step_problems(self) -> Iterator[Problem]:
        """What is wrong with the arrays that `step` returns."""
        _, observation, reward, terminated = self.first
        yield from self._float_problems("step", "observation", observation, self._observation_shape)
        yield from self._float_problems("step", "reward", reward, ())
        if not (isinstance(terminated, jax.Array) and terminated.shape == () and terminated.dtype == bool):
            yield wrong_array("step", "terminated", terminated, "bool[]")

    @cached_property
    def _observation_shape(self) -> tuple[int, ...]:
        require(attribute_problems(self.env, ATTRIBUTES["observation_size"]))
        return (int(self.env.observation_size),)

    def _float_problems(self, method: str, name: str, x: Any, shape: tuple[int, ...]) -> Iterator[Problem]:
        wanted = jnp.zeros(shape)
        if not (isinstance(x, jax.Array) and x.shape == shape and x.dtype == wanted.dtype):
            yield wrong_array(method, name, x, describe(wanted))

    @cached_property
    def episodes(self) -> Episodes:
        """A few random episodes of every task."""
        require(self.output_problems())
        require(self.form_problems())
        keys = jax.random.split(self.key, _EPISODES)
        play = jax.vmap(jax.vmap(self._episode, (0, None)), (None, 0))
        return attempt("step", eqx.filter_jit(play), keys, self.tasks)

    def _episode(self, key: Key, task: PyTree) -> Episodes:
        reset_key, action_key, step_key = jax.random.split(key, 3)
        actions = random_actions(self.space, action_key, (self.length,))

        def advance(carry: tuple[PyTree, Array], xs: tuple[Key, Array]) -> tuple[Any, Episodes]:
            state, running = carry
            outcome = self.step(xs[0], state, xs[1], task)
            record = Episodes(outcome.observation, outcome.reward, outcome.terminated & running, running)
            return (outcome.state, running & ~outcome.terminated), record

        state, _ = self.reset(reset_key, task)
        start = (state, jnp.ones((), bool))
        return jax.lax.scan(advance, start, (jax.random.split(step_key, self.length), actions))[1]
