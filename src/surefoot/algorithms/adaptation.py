"""Adaptation to tasks: rollouts and inner steps in turn, for training and evaluation alike."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from surefoot.algorithms.base import AbstractAdapter, compile_ahead, jit_from_host
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy
from surefoot.samplers import AbstractCollector, AbstractSampler
from surefoot.samplers.base import empty_rollout, is_traced
from surefoot.samplers.timeline import Timeline
from surefoot.types import Batch, Key, Rollout, Task


class Adaptation(eqx.Module):
    """Adaptation of a policy to tasks. Phase k is drawn by the policies after k steps. All axes begin with
    `task`."""

    rollouts: tuple[Rollout, ...]
    """The rollout of each phase, as it was sampled."""
    batches: tuple[Batch, ...]
    """The batch of each rollout, in the scale that the policies see."""
    learners: tuple[Any, ...]
    """The adapter's learners of each phase."""


def adapt_to_tasks(
    sampler: AbstractCollector,
    adapter: AbstractAdapter,
    policy: AbstractPolicy,
    tasks: Task,
    key: Key,
    steps: int,
    first: int = 0,
    while_starting: Callable[[Adaptation], None] | None = None,
) -> Adaptation:
    """Adapts `policy` to each task by `steps` steps, with fresh rollouts before each and after the last.

    `tasks` have a leading task axis. They are numbered from `first` on, and what is drawn for a task follows
    from the key, its number and the phase. With an asynchronous sampler no task waits for another. Where a
    policy adapts within trials, whole trials are drawn, and the phases are their episodes. Where worker
    processes have to start first, `while_starting` is called unless a task has arrived by then, with an
    adaptation of zeros that has the form of the result. Raises `UserError` if the sampler does not draw whole
    episodes, or if a trial has too few.
    """
    if not isinstance(sampler, AbstractSampler):
        raise UserError("Adaptation is learned from whole episodes; set --streams 0.")
    if adapter.adapts_within_trials:
        begun = sample_once(sampler, adapter, policy, tasks, key, steps, first)
    elif sampler.asynchronous and not is_traced(policy, tasks, key):
        return _as_they_arrive(sampler, adapter, policy, tasks, key, steps, first, while_starting)
    else:
        begun = Adaptation((), (), (begin_all(adapter, policy, jax.tree.leaves(tasks)[0].shape[0]),))
    rollouts, learners = list(begun.rollouts), list(begun.learners)
    batches: list[Batch] = []
    for phase in range(steps + 1):
        if phase == len(rollouts):  # trials hold all phases
            acting = _acting_all(adapter, learners[-1])
            rollouts.append(sample_tasks(sampler, acting, tasks, jax.random.fold_in(key, phase), first))
        batches.append(_batch_all(adapter, rollouts[phase], jnp.asarray(phase)))
        if phase < steps:
            learners.append(_improve_all(adapter, learners[-1], batches[-1]))
    return Adaptation(tuple(rollouts), tuple(batches), tuple(learners))


def sample_once(
    sampler: AbstractSampler,
    adapter: Any,
    policy: AbstractPolicy,
    tasks: Task,
    key: Key,
    steps: int,
    first: int = 0,
) -> Adaptation:
    """The rollouts of `adapt_to_tasks` where a policy adapts within trials or not at all (`steps` is 0), and
    the learners before them. Without batches, and without the learners of later phases: the memories of long
    trials may be large."""
    learners = begin_all(adapter, policy, jax.tree.leaves(tasks)[0].shape[0])
    acting = _acting_all(adapter, learners)
    rollout = sample_tasks(sampler, acting, tasks, jax.random.fold_in(key, 0), first)
    rollouts = phases_of_all(adapter, rollout, steps) if adapter.adapts_within_trials else (rollout,)
    return Adaptation(rollouts, (), (learners,))


def for_each_task(policy: AbstractPolicy, count: int) -> AbstractPolicy:
    """The same policy for each of `count` tasks: its arrays with a leading task axis."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)) if eqx.is_array(x) else x, policy)


def sample_tasks(
    sampler: AbstractSampler, policies: AbstractPolicy, tasks: Task, key: Key, first: int
) -> Rollout:
    """A rollout of every task, the first of which has the number `first`; compiled where that is possible."""
    if not sampler.traceable:
        return sampler.sample(policies, tasks, key, first)
    return _compiled_sample(sampler, policies, tasks, key, jnp.asarray(first, jnp.int32))


@jit_from_host
def _compiled_sample(
    sampler: AbstractSampler, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""]
) -> Rollout:
    return sampler.sample(policies, tasks, key, first)


@jit_from_host
def begin_all(adapter: AbstractAdapter, policy: AbstractPolicy, count: int) -> Any:
    """The adapter's learners of `count` tasks before the first step."""
    return eqx.filter_vmap(adapter.begin)(for_each_task(policy, count))


@jit_from_host
def _acting_all(adapter: AbstractAdapter, learners: Any) -> AbstractPolicy:
    return eqx.filter_vmap(adapter.acting)(learners)


@jit_from_host
def _batch_all(adapter: AbstractAdapter, rollouts: Rollout, phase: Int[Array, ""]) -> Batch:
    return jax.vmap(lambda rollout: adapter.batch(rollout, phase))(rollouts)


@jit_from_host
def phases_of_all(adapter: Any, trials: Rollout, steps: int) -> tuple[Rollout, ...]:
    """The rollouts of each phase, where a policy adapts within trials."""
    return adapter.phases(trials, steps)


@jit_from_host
def _improve_all(adapter: AbstractAdapter, learners: Any, batches: Batch) -> Any:
    return eqx.filter_vmap(adapter.improve)(learners, batches)


def _as_they_arrive(
    sampler: AbstractSampler,
    adapter: AbstractAdapter,
    policy: AbstractPolicy,
    tasks: Task,
    key: Key,
    steps: int,
    first: int,
    while_starting: Callable[[Adaptation], None] | None,
) -> Adaptation:
    """Each task as soon as its own rollouts are in, while the others are still being sampled."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    rollouts, batches, learners = ([[None] * count for _ in range(steps + 1)] for _ in range(3))
    learners[0] = [adapter.begin(policy)] * count
    pending: dict[Future[Rollout], tuple[int, int]] = {}
    timeline, has_started = sampler.timeline or Timeline(), sampler.has_started

    def submit(i: int, phase: int) -> None:
        task = jax.tree.map(lambda x: x[i], tasks)
        task_key = jax.random.fold_in(jax.random.fold_in(key, phase), first + i)
        future = sampler.submit(adapter.acting(learners[phase][i]), task, task_key)
        timeline.label(future, first + i, phase)
        pending[future] = i, phase

    try:
        for i in range(count):
            submit(i, 0)
        if not has_started:
            with timeline.work("compile"):
                blank = _compiled_ahead(sampler, adapter, learners[0][0], count, steps)
                if while_starting is not None and not any(future.done() for future in pending):
                    while_starting(blank)
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                i, phase = pending.pop(future)
                rollouts[phase][i] = future.result()
                with timeline.work("adapt" if phase < steps else "prepare", first + i, phase):
                    batches[phase][i] = _batch_one(adapter, rollouts[phase][i], jnp.asarray(phase))
                    if phase < steps:
                        learners[phase + 1][i] = _improve_one(adapter, learners[phase][i], batches[phase][i])
                if phase < steps:
                    submit(i, phase + 1)
    finally:
        for future in pending:
            future.cancel()
    return Adaptation(*(tuple(map(stack, phases)) for phases in (rollouts, batches, learners)))


def _compiled_ahead(
    sampler: AbstractSampler, adapter: AbstractAdapter, learner: Any, count: int, steps: int
) -> Adaptation:
    """Compiles what follows a task's rollouts. Returns an adaptation of zeros to `count` tasks, of the form
    that `_as_they_arrive` returns."""
    rollout, start = empty_rollout(sampler.env, (sampler.episodes, sampler.env.horizon)), jnp.asarray(0)
    compile_ahead(_batch_one, adapter, rollout, start)
    batch, learners = _zeros(_batch_one, adapter, rollout, start), [learner]
    for _ in range(steps):
        compile_ahead(_improve_one, adapter, learners[-1], batch)
        learners.append(_zeros(_improve_one, adapter, learners[-1], batch))
    phases = [rollout] * (steps + 1), [batch] * (steps + 1), learners
    return Adaptation(*(tuple(stack([one] * count) for one in each) for each in phases))


def _zeros(function: Callable[..., Any], *arguments: Any) -> Any:
    """Zeros of the form of a function's result."""
    form = eqx.filter_eval_shape(function, *arguments)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) if hasattr(x, "shape") else x, form)


@eqx.filter_jit
def _batch_one(adapter: AbstractAdapter, rollout: Rollout, phase: Int[Array, ""]) -> Batch:
    return adapter.batch(rollout, phase)


@eqx.filter_jit
def _improve_one(adapter: AbstractAdapter, learner: Any, batch: Batch) -> Any:
    return adapter.improve(learner, batch)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one, whose arrays have a new leading axis."""
    return jax.tree.map(lambda *x: jnp.stack(x) if eqx.is_array(x[0]) else x[0], *trees)
