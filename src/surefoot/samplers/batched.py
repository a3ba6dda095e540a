"""Samplers of any family in this process: all environments advance together, one call of their simulator a
step."""

from concurrent.futures import Future
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from surefoot.envs.base import AbstractFamily
from surefoot.envs.simulation import EpisodeKeys
from surefoot.options import UserError, check
from surefoot.policies.base import AbstractPolicy
from surefoot.samplers.action_sampler import ActionSampler
from surefoot.samplers.base import (
    AbstractCollector,
    AbstractHostSampler,
    StreamState,
    completed,
    empty_observations,
    empty_rollout,
    indexed_keys,
    initial_memories,
    is_traced,
)
from surefoot.samplers.host_rollouts import Renewals, add_task_axis, key_data, repeat_rows, rollout_steps
from surefoot.samplers.host_runner import HostRunner
from surefoot.samplers.record import Record
from surefoot.types import Key, Keys, Rollout, Task


class BatchedSampler(AbstractHostSampler):
    """Whole episodes of any number of tasks: one evaluation of the policies and one call of the simulator for
    each step of all episodes that have not ended."""

    def __init__(self, env: AbstractFamily, episodes: int, threads: int) -> None:
        check(episodes >= 1, "episodes", episodes, "1 or more")
        self.env, self.episodes, self._runner = env, episodes, HostRunner(env, threads)

    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """Samples before it returns: the future is done."""
        keys = key_data(indexed_keys(key, self.episodes))
        return completed(self._runner.sample_task, policy, task, keys)

    def sample_on_host(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: int, count: int
    ) -> Rollout:
        return self._runner.sample(policies, tasks, key_data(_keys(key, first, count, self.episodes)))

    def close(self) -> None:
        self._runner.close()


@partial(jax.jit, static_argnums=(2, 3))
def _keys(key: Key, first: Int[Array, ""] | int, tasks: int, episodes: int) -> Keys:
    """The keys of all episodes, axes `[task episode]`."""
    return jax.vmap(lambda k: indexed_keys(k, episodes))(indexed_keys(key, tasks, first))


class BatchedStreams(AbstractCollector):
    """Parallel environments of one task, `streams` of them, collected in batches of `steps` steps each,
    whatever ends in between.

    A batch begins from what the last one saved, so that a resumed run equals an uninterrupted one.
    """

    traceable = False

    def __init__(self, env: AbstractFamily, streams: int, steps: int, threads: int) -> None:
        check(streams >= 1, "streams", streams, "1 or more")
        check(steps >= 1, "steps", steps, "1 or more")
        self.env, self.streams, self.steps, self._runner = env, streams, steps, HostRunner(env, threads)

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> StreamState:
        """A state in which no stream has begun: the first batch begins all of them with its own key."""
        del task, key
        n, simulator = self.streams, self._runner.simulator
        if not simulator.is_resumable:
            raise UserError(
                "Streams continue from one batch to the next, and this environment's episodes cannot be "
                "saved between batches; use whole episodes: --streams 0."
            )
        saved = jnp.zeros((n, simulator.words()), jnp.uint32)  # pyright: ignore[reportAttributeAccessIssue]
        observations = empty_observations(self.env, (n,), jnp.zeros)
        begun, times = jnp.zeros((), bool), jnp.zeros(n, jnp.int32)
        return StreamState((begun, saved), observations, times, initial_memories(policy, n))

    def collect(
        self, policy: AbstractPolicy, task: Task, state: StreamState, key: Key
    ) -> tuple[StreamState, Rollout]:
        if is_traced(policy, task, state, key):
            return state, empty_rollout(self.env, (self.streams, self.steps), state.memory)
        begins, acts = map(np.asarray, _keys_of_streams(key, self.streams))
        acting, tasks = add_task_axis(policy), repeat_rows(add_task_axis(task), self.streams)
        (begun, saved), before, before_times = jax.tree.map(
            np.asarray, (state.env_state, state.observations, state.times)
        )
        record = Record(self.env, self.streams, self.steps)

        def sample_part(simulator: Any, part: slice) -> tuple[Any, ...]:
            own, renewals = _rows(tasks, part), Renewals(begins[part])
            action_sampler = ActionSampler(acting, acts[None, part], add_task_axis(_rows(state.memory, part)))
            if begun:
                simulator.restore(saved[part], own)
                observations, times = _rows(before, part), before_times[part]
            else:
                observations = simulator.begin(renewals.at(self.steps), own)
                times = np.zeros(len(begins[part]), np.int32)
            rows = np.arange(self.streams)[part]
            observations, times = rollout_steps(
                simulator, self.env.horizon, action_sampler, observations, times, renewals, record, rows
            )
            return simulator.save(), observations, times, _rows(action_sampler.memory, 0)

        parts = self._runner.each(self.streams, record, sample_part)
        saved, *rest = jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)), *parts)
        after = StreamState((jnp.ones((), bool), saved), *rest)
        return after, record.rollout((self.streams,), memory=state.memory)

    def close(self) -> None:
        self._runner.close()


@partial(jax.jit, static_argnums=1)
def _keys_of_streams(key: Key, streams: int) -> tuple[Array, Array]:
    """Raw keys of each stream's episodes, and of its actions."""
    keys = EpisodeKeys.of(key)
    begins, acts = (jax.random.split(k, streams) for k in (keys.reset, keys.actions))
    return jax.random.key_data(begins), jax.random.key_data(acts)


def _rows(tree: PyTree, part: slice | int) -> PyTree:
    return jax.tree.map(lambda x: x[part], tree)
