"""Samplers of any family in this process: all environments advance together, one call of their simulator a
step."""

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property, partial
from typing import Any

import equinox as eqx
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
    finals_of_streams,
    indexed_keys,
    initial_memories,
    is_traced,
)
from surefoot.samplers.host_rollouts import (
    Words,
    add_task_axis,
    key_data,
    renewal_keys,
    repeat_rows,
    rollout_steps,
)
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


class AbstractHostStreams(AbstractCollector):
    """Parallel environments of one task, `streams` of them, collected in batches of `steps` steps each,
    whatever ends in between.

    A batch begins from what the last one saved, so that a resumed run equals an uninterrupted one.
    """

    traceable = False

    def __init__(self, env: AbstractFamily, streams: int, steps: int) -> None:
        check(streams >= 1, "streams", streams, "1 or more")
        check(steps >= 1, "steps", steps, "1 or more")
        self.env, self.streams, self.steps = env, streams, steps

    @cached_property
    def _words(self) -> int:
        """The length of a saved row. Raises `UserError` if episodes cannot be saved."""
        simulator = self.env.simulator(1)
        try:
            if simulator.is_resumable:
                return simulator.words()  # pyright: ignore[reportAttributeAccessIssue]
        finally:
            simulator.close()
        raise UserError(
            "Streams continue from one batch to the next, and this environment's episodes cannot be "
            "saved between batches; use whole episodes: --streams 0."
        )

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> StreamState:
        """A state in which no stream has begun: the first batch begins all of them with its own key."""
        del task, key
        n = self.streams
        saved = jnp.zeros((n, self._words), jnp.uint32)
        observations = empty_observations(self.env, (n,), jnp.zeros)
        begun, times = jnp.zeros((), bool), jnp.zeros(n, jnp.int32)
        return StreamState((begun, saved), observations, times, initial_memories(policy, n))

    def collect(
        self, policy: AbstractPolicy, task: Task, state: StreamState, key: Key
    ) -> tuple[StreamState, Rollout]:
        if is_traced(policy, task, state, key):
            axes, finals = (self.streams, self.steps), finals_of_streams(self.env, self.steps)
            return state, empty_rollout(self.env, axes, finals, state.memory)
        keys = map(np.asarray, keys_of_streams(key, self.streams))
        after, rollout = self.collect_on_host(policy, task, jax.tree.map(np.asarray, state), *keys)
        return after, eqx.tree_at(lambda r: r.memory, rollout, state.memory, is_leaf=lambda x: x is None)

    @abstractmethod
    def collect_on_host(
        self, policy: AbstractPolicy, task: Task, state: StreamState, begins: Words, acts: Words
    ) -> tuple[StreamState, Rollout]:
        """The state after the next batch, and the batch without its memory. `begins` and `acts` are the keys
        of each stream's episodes and actions."""


class BatchedStreams(AbstractHostStreams):
    """Streams in this process: one evaluation of the policy and one call of the simulator for each step of
    all of them."""

    def __init__(self, env: AbstractFamily, streams: int, steps: int, threads: int) -> None:
        super().__init__(env, streams, steps)
        self._runner = HostRunner(env, threads)

    def collect_on_host(
        self, policy: AbstractPolicy, task: Task, state: StreamState, begins: Words, acts: Words
    ) -> tuple[StreamState, Rollout]:
        return continue_streams(self._runner, policy, task, state, begins, acts, self.steps)

    def close(self) -> None:
        self._runner.close()


def continue_streams(
    runner: HostRunner,
    policy: AbstractPolicy,
    task: Task,
    state: StreamState,
    begins: Words,
    acts: Words,
    steps: int,
) -> tuple[StreamState, Rollout]:
    """The next `steps` steps of the streams whose state is given, as NumPy's arrays; see
    `AbstractHostStreams.collect_on_host`."""
    streams, (begun, saved) = len(begins), state.env_state
    acting, tasks = add_task_axis(policy), repeat_rows(add_task_axis(task), streams)
    record = Record(runner.env, streams, steps, finals_of_streams(runner.env, steps))

    def sample_part(simulator: Any, part: slice) -> tuple[Any, ...]:
        own, keys = rows_of(tasks, part), begins[part]
        memory = add_task_axis(jax.tree.map(jnp.asarray, rows_of(state.memory, part)))
        action_sampler = ActionSampler(acting, acts[None, part], memory)
        if begun:
            simulator.restore(saved[part], own)
            observations, times = rows_of((state.observations, state.times), part)
        else:
            observations = simulator.begin(renewal_keys(keys, steps), own)
            times = np.zeros(len(keys), np.int32)
        rows = np.arange(streams)[part]
        observations, times = rollout_steps(
            simulator, runner.env.horizon, action_sampler, observations, times, keys, record, rows
        )
        env_state = np.ones((), bool), simulator.save()
        return env_state, observations, times, rows_of(action_sampler.memory, 0)

    parts = runner.each(streams, record, sample_part)
    return StreamState(*joined(parts)), record.rollout((streams,))


def joined(parts: Sequence[PyTree]) -> PyTree:
    """Rows of several parts, one after another, as JAX's arrays. Scalars are the same in every part. Rows of
    saved episodes, or of final observations, that differ in length are filled up with zeros."""

    def join(*rows: Any) -> Array:
        if rows[0].ndim == 0:
            return jnp.asarray(rows[0])
        if len({x.shape[1:] for x in rows}) > 1:
            width = max(x.shape[1] for x in rows)
            missing = [(0, 0)] * (rows[0].ndim - 2)
            rows = tuple(np.pad(x, [(0, 0), (0, width - x.shape[1]), *missing]) for x in rows)
        return jnp.asarray(np.concatenate(rows))

    return jax.tree.map(join, *parts)


@partial(jax.jit, static_argnums=1)
def keys_of_streams(key: Key, streams: int) -> tuple[Array, Array]:
    """Raw keys of each stream's episodes, and of its actions."""
    keys = EpisodeKeys.of(key)
    begins, acts = (jax.random.split(k, streams) for k in (keys.reset, keys.actions))
    return jax.random.key_data(begins), jax.random.key_data(acts)


def rows_of(tree: PyTree, part: slice | int) -> PyTree:
    """These rows of every array; scalars belong to all rows."""
    return jax.tree.map(lambda x: x[part] if x.ndim else x, tree)
