"""The contract kit of environments."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from surefoot.checks import common
from surefoot.checks.env_calls import ATTRIBUTES, CONTRACT, TASKS, EnvCalls, Episodes, axis_problems
from surefoot.checks.problem import Problem, Problems, attempt, collect, error, require, warning
from surefoot.types import Continuous, Discrete, as_space, is_key

_EXTREME = 1e6


def check_env(env: Any) -> list[Problem]:
    """All ways in which `env` breaks the contract of `envs.AbstractEnv`; an empty list if it is sound.

    It need not be a subclass here; training takes no other. Its methods are called with a few tasks, eagerly,
    compiled and vmapped, in a few episodes of at most 100 steps with random actions. An exception in its code
    is reported, not raised.
    """
    return common.is_class(env, "an environment") or collect(EnvChecks(env))


class EnvChecks(EnvCalls):
    """The checks of an environment."""

    @cached_property
    def episodes(self) -> Episodes:
        """A few random episodes of every task, in one compiled program."""
        for check in (self.check_reset_returns, self.check_step_returns, self.check_state_keeps_its_form):
            require(check())
        episodes = jax.vmap(jax.vmap(self.episode, (0, None)), (None, 0))
        return attempt("step", eqx.filter_jit(episodes), self.episode_keys, self.tasks)

    def check_attributes(self) -> Problems:
        for name, wanted in ATTRIBUTES.items():
            yield from common.has_attribute(self.env, name, *wanted)

    def check_methods(self) -> Problems:
        yield from common.has_methods(self.env, ("sample_tasks", "reset", "step"), CONTRACT)

    def check_immutable(self) -> Problems:
        yield from common.is_immutable(self.env)

    def check_tasks_have_a_leading_axis(self) -> Problems:
        yield from common.all_arrays(self.sample_tasks(self.key, TASKS), "task")
        for n in (TASKS, 1):  # traced and not compiled, which can be slow
            yield from axis_problems(jax.eval_shape(lambda key, n=n: self.sample_tasks(key, n), self.key), n)

    def check_tasks_follow_the_key(self) -> Problems:
        tasks, others = self.tasks, self.sample_tasks(jax.random.fold_in(self.key, 1), TASKS)
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
        yield from self._is_pure("sample_tasks", self.tasks, self.sample_tasks, self.key, TASKS)

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
        task = self.task(TASKS - 1)
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
        if all(common.same(x[0], x[i]) for x in jax.tree.leaves(seen) for i in range(1, TASKS)):
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
        yield from common.keeps_no_state(self.before, self.env, lambda: self.first)


def _array_problems(method: str, name: str, x: Any, wanted: Array | jax.ShapeDtypeStruct) -> Problems:
    yield from common.has_form(
        f"`{method}` returns `{name}` as",
        x,
        wanted,
        "Samplers, policies and estimates of the return are made for arrays of that shape and dtype.",
        f"Give it that shape; jnp.asarray(x, dtype) converts it, with dtype {wanted.dtype}.",
    )
