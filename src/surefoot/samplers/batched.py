"""The batched samplers: all environments of all tasks advance together, one call of their simulator a step.

They serve any family, in this process; for MuJoCo they work at the speed of the physics.
"""

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from surefoot.envs.base import AbstractFamily
from surefoot.envs.simulation import AbstractResumableSimulator, EpisodeKeys
from surefoot.options import UserError, check
from surefoot.policies.base import AbstractPolicy, initial_memory
from surefoot.samplers.action_sampler import ActionSampler
from surefoot.samplers.base import AbstractCollector, AbstractSampler, at_once, empty_rollout, is_traced
from surefoot.samplers.host_rollouts import (
    Renewals,
    add_task_axis,
    episode_keys,
    key_data,
    repeat_rows,
    rollout_steps,
)
from surefoot.samplers.host_runner import HostRunner
from surefoot.samplers.record import Record
from surefoot.types import Key, Keys, Rollout, Task


class BatchedSampler(AbstractSampler):
    """Whole episodes of any number of tasks in step: one evaluation of the policies and one call of the
    simulator for each step of all that have not ended."""

    traceable = False

    def __init__(self, env: AbstractFamily, episodes: int, threads: int) -> None:
        check(episodes >= 1, "episodes", episodes, "1 or more")
        self.env, self.episodes, self._runner = env, episodes, HostRunner(env, threads)

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> None:
        """Every batch begins anew, with whole episodes."""
        del policy, task, key

    def collect(self, policy: AbstractPolicy, task: Task, where: None, key: Key) -> tuple[None, Rollout]:
        del where
        if is_traced(policy, task, key):
            return None, empty_rollout(self.env, (self.episodes, self.env.horizon))
        return None, self._runner.sample_task(policy, task, key_data(episode_keys(key, self.episodes)))

    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """At once: the future is done when it is returned."""
        return at_once(lambda: self.collect(policy, task, None, key)[1])

    def sample(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""] | int = 0
    ) -> Rollout:
        count = jax.tree.leaves(tasks)[0].shape[0]
        if is_traced(policies, tasks, key):
            return empty_rollout(self.env, (count, self.episodes, self.env.horizon))
        keys = key_data(_keys_of_tasks(key, first, count, self.episodes))
        return self._runner.sample(policies, tasks, keys)

    def close(self) -> None:
        self._runner.close()


@partial(jax.jit, static_argnums=(2, 3))
def _keys_of_tasks(key: Key, first: Int[Array, ""] | int, tasks: int, episodes: int) -> Keys:
    of_task = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(tasks, dtype=jnp.int32))
    return jax.vmap(lambda k: episode_keys(k, episodes))(of_task)


@partial(jax.jit, static_argnums=1)
def _keys_of_streams(key: Key, streams: int) -> tuple[Array, Array]:
    """Raw keys of every stream: of the episodes that begin in it, and of its actions."""
    keys = EpisodeKeys.of(key)
    begins, acts = (jax.random.split(k, streams) for k in (keys.reset, keys.actions))
    return jax.random.key_data(begins), jax.random.key_data(acts)


class SamplerState(eqx.Module):
    """Where every stream stands. All axes begin with `stream`."""

    begun: Bool[Array, ""]
    """False before the first batch, when the rest means nothing."""
    saved: UInt32[Array, "stream words"]
    """What the simulator needs to go on."""
    observations: Float[Array, "stream obs"]
    times: Int[Array, " stream"]
    """Steps since the episode began."""
    memory: PyTree


class BatchedStreams(AbstractCollector):
    """One task, `streams` times side by side, `steps` of each a batch, whatever ends in between.

    A batch begins from what the last one saved, so that going on from a checkpoint is the same as never
    having stopped.
    """

    traceable = False

    def __init__(self, env: AbstractFamily, streams: int, steps: int, threads: int) -> None:
        check(streams >= 1, "streams", streams, "1 or more")
        check(steps >= 1, "steps", steps, "1 or more")
        self.env, self.streams, self.steps, self._runner = env, streams, steps, HostRunner(env, threads)

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> SamplerState:
        """Nothing has begun: the first batch begins every stream with its own key."""
        del task, key
        n, simulator = self.streams, self._runner.simulator
        if not isinstance(simulator, AbstractResumableSimulator):
            raise UserError(
                "Streams go on from one batch to the next, and this environment's episodes cannot be put "
                "away between them; use whole episodes: --streams 0."
            )
        return SamplerState(
            jnp.zeros((), bool),
            jnp.zeros((n, simulator.words()), jnp.uint32),
            jnp.zeros((n, self.env.observation_size)),
            jnp.zeros(n, jnp.int32),
            jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), initial_memory(policy)),
        )

    def collect(
        self, policy: AbstractPolicy, task: Task, where: SamplerState, key: Key
    ) -> tuple[SamplerState, Rollout]:
        if is_traced(policy, task, where, key):
            return where, replace(empty_rollout(self.env, (self.streams, self.steps)), memory=where.memory)
        begins, acts = map(np.asarray, _keys_of_streams(key, self.streams))
        acting, tasks = add_task_axis(policy), repeat_rows(add_task_axis(task), self.streams)
        stood = jax.tree.map(np.asarray, replace(where, memory=None))
        record = Record(self.env, self.streams, self.steps)

        def some(simulator: AbstractResumableSimulator, part: slice) -> tuple[Any, ...]:
            own, renewals = _rows(tasks, part), Renewals(begins[part])
            action_sampler = ActionSampler(acting, acts[None, part], add_task_axis(_rows(where.memory, part)))
            if stood.begun:
                simulator.restore(stood.saved[part], own)
                observations, times = stood.observations[part], stood.times[part]
            else:
                observations = simulator.begin(renewals.at(self.steps), own)
                times = np.zeros(len(observations), np.int32)
            rows = np.arange(self.streams)[part]
            observations, times = rollout_steps(
                simulator, self.env.horizon, action_sampler, observations, times, renewals, record, rows
            )
            return simulator.save(), observations, times, _rows(action_sampler.memory, 0)

        parts = self._runner.each(self.streams, record, some)
        end = jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)), *parts)
        return SamplerState(jnp.ones((), bool), *end), record.rollout((self.streams,), memory=where.memory)

    def close(self) -> None:
        self._runner.close()


def _rows(tree: PyTree, part: slice | int) -> PyTree:
    return jax.tree.map(lambda x: x[part], tree)
