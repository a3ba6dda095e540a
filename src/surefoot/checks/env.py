"""The contract kit of environments."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from surefoot.checks.common import (
    all_arrays,
    close,
    finite,
    is_immutable,
    is_instance,
    keeps_no_state,
    same,
)
from surefoot.checks.env_probe import TASKS, EnvProbe
from surefoot.checks.problem import Problem, Stop, collect, error, warning
from surefoot.types import Continuous

_EXTREME = 1e6


def check_env(env: Any) -> list[Problem]:
    """All ways in which `env` breaks the contract of `envs.AbstractEnv`; none if it is sound.

    It need not be a subclass. Its methods are called with a few tasks, eagerly, compiled and vmapped, and a
    few episodes of at most 100 steps are played with random actions. What its code raises is reported, not
    raised.
    """
    problems = collect([_is_instance], env)
    return problems or collect(_CHECKS, EnvProbe(env))


def _is_instance(env: Any) -> Iterator[Problem]:
    yield from is_instance(env, "an environment")


def _attributes(probe: EnvProbe) -> Iterator[Problem]:
    yield from probe.attribute_problems()


def _methods(probe: EnvProbe) -> Iterator[Problem]:
    yield from probe.method_problems()


def _immutable(probe: EnvProbe) -> Iterator[Problem]:
    yield from is_immutable(probe.env)


def _tasks_have_a_leading_axis(probe: EnvProbe) -> Iterator[Problem]:
    yield from all_arrays(probe.sample_tasks(probe.key, TASKS), "task")
    for n in (TASKS, 1):
        yield from probe.task_problems(n)


def _tasks_follow_the_key(probe: EnvProbe) -> Iterator[Problem]:
    tasks, others = probe.tasks, probe.sample_tasks(jax.random.fold_in(probe.key, 1), TASKS)
    if all(leaf.size == 0 for leaf in jax.tree.leaves(tasks)) or not same(tasks, others):
        return
    if all(same(probe.task(0), probe.task(i)) for i in range(1, TASKS)):
        yield warning(
            "All tasks of the family are the same.",
            "There is nothing to adapt to.",
            "Draw what tells tasks apart from the key; a family of one task may return jnp.zeros((n, 0)).",
        )
    else:
        yield error(
            "`sample_tasks` gives the same tasks for different keys.",
            "Training would meet the same few tasks at every iteration, and evaluation too.",
            "Draw the tasks with the key: jax.random.uniform(key, (n, ...)).",
        )


def _reset_returns(probe: EnvProbe) -> Iterator[Problem]:
    yield from probe.reset_problems()


def _step_returns(probe: EnvProbe) -> Iterator[Problem]:
    yield from probe.step_problems()


def _state_keeps_its_form(probe: EnvProbe) -> Iterator[Problem]:
    yield from probe.form_problems()


def _sample_tasks_is_pure(probe: EnvProbe) -> Iterator[Problem]:
    def again() -> Any:
        return probe.sample_tasks(probe.key, TASKS)

    yield from _is_pure("sample_tasks", probe.tasks, again, again)


def _reset_is_pure(probe: EnvProbe) -> Iterator[Problem]:
    arguments = (probe.keys[0], probe.task(0))
    yield from _is_pure(
        "reset", probe.start, lambda: probe.reset(*arguments), lambda: probe.compiled("reset", *arguments)
    )


def _step_is_pure(probe: EnvProbe) -> Iterator[Problem]:
    arguments = (probe.keys[0], probe.start[0], probe.action, probe.task(0))
    yield from _is_pure(
        "step", probe.first, lambda: probe.step(*arguments), lambda: probe.compiled("step", *arguments)
    )


def _is_pure(name: str, first: Any, again: Any, compiled: Any) -> Iterator[Problem]:
    if not same(first, again()):
        yield error(
            f"`{name}` gives different results for the same arguments.",
            "Runs could not be repeated, and under jit the first result would be kept for ever.",
            "Take all randomness from the key with jax.random, and all memory from the state.",
        )
    elif not close(first, compiled()):
        yield error(
            f"`{name}` gives other results under jit than without.",
            "Training runs under jit, and would see another environment than you do.",
            "Take all that varies from the arguments: not from globals, np.random or the time.",
        )


def _maps_over_tasks(probe: EnvProbe) -> Iterator[Problem]:
    starts = probe.vmapped("reset", probe.keys, probe.tasks)
    actions = jnp.broadcast_to(probe.action, (TASKS, *probe.action.shape))
    steps = probe.vmapped("step", probe.keys, starts[0], actions, probe.tasks)
    start = probe.reset(probe.keys[-1], probe.task(TASKS - 1))
    alone = (start, probe.step(probe.keys[-1], start[0], probe.action, probe.task(TASKS - 1)))
    if not close(jax.tree.map(lambda x: x[-1], (starts, steps)), jax.tree.map(jnp.asarray, alone)):
        yield error(
            "A task played side by side with others goes otherwise than alone.",
            "Tasks and episodes are vmapped over.",
            "Write `reset` and `step` for one task and one episode, without an axis for many.",
        )


def _stays_finite(probe: EnvProbe) -> Iterator[Problem]:
    valid = np.asarray(probe.episodes.valid)
    for name in ("observations", "rewards"):
        if not finite(getattr(probe.episodes, name)[valid]):
            yield error(
                f"Among the {name} of random episodes there are NaN or infinite values.",
                "One of them is enough to spoil the policy for good.",
                "Look for a division by zero, the root or logarithm of a negative number, or growth.",
            )


def _survives_extreme_actions(probe: EnvProbe) -> Iterator[Problem]:
    for action in _extreme_actions(probe):
        outcome = probe.step(probe.keys[0], probe.start[0], action, probe.task(0))
        if not finite((outcome.observation, outcome.reward)):
            yield error(
                f"The action {np.asarray(action).tolist()} leads to NaN or infinite values.",
                "Actions come as the policy draws them, unclipped; a Gaussian has no bounds.",
                "Clip the action in `step`, for example with jnp.clip(action, -1.0, 1.0).",
            )


def _extreme_actions(probe: EnvProbe) -> tuple[Array, ...]:
    if isinstance(probe.space, Continuous):
        return (jnp.full(probe.space.size, _EXTREME), jnp.full(probe.space.size, -_EXTREME))
    return (jnp.zeros((), jnp.int32), jnp.asarray(probe.space.n - 1, jnp.int32))


def _depends_on_the_task(probe: EnvProbe) -> Iterator[Problem]:
    tasks = range(1, TASKS)
    if all(same(probe.task(0), probe.task(i)) for i in tasks):
        return
    played = [jax.tree.map(lambda x, i=i: x[i], probe.episodes) for i in range(TASKS)]
    if all(same(played[0], played[i]) for i in tasks):
        yield warning(
            "Observations, rewards and ends of random episodes do not depend on the task.",
            "Then there is nothing to adapt to; often the goal was left in an attribute.",
            "Take the goal from the `task` argument of `reset` and `step`.",
        )


def _leaves_the_time_limit_to_the_sampler(probe: EnvProbe) -> Iterator[Problem]:
    terminated = np.asarray(probe.episodes.terminated)
    if not 1 < probe.length == probe.env.horizon:
        return
    if terminated[..., -1].all() and not terminated[..., :-1].any():
        yield warning(
            "Every random episode terminates at the horizon, and none before.",
            "A time limit reported as termination makes the value after it zero, whatever the agent did.",
            "Let `terminated` speak of terminal states alone; the sampler counts to the horizon itself.",
        )


def _keeps_no_state(probe: EnvProbe) -> Iterator[Problem]:
    with suppress(Stop):
        probe.step(probe.keys[0], probe.start[0], probe.action, probe.task(0))
    yield from keeps_no_state(probe.before, probe.env)


_CHECKS = (
    _attributes,
    _methods,
    _immutable,
    _tasks_have_a_leading_axis,
    _tasks_follow_the_key,
    _reset_returns,
    _step_returns,
    _state_keeps_its_form,
    _sample_tasks_is_pure,
    _reset_is_pure,
    _step_is_pure,
    _maps_over_tasks,
    _stays_finite,
    _survives_extreme_actions,
    _depends_on_the_task,
    _leaves_the_time_limit_to_the_sampler,
    _keeps_no_state,
)
