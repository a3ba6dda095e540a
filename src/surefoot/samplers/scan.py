"""Samplers of environments written in JAX, stepped inside one compiled program."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from surefoot.envs.base import check_time_limit
from surefoot.envs.simulation import EpisodeKeys
from surefoot.options import Options, at_least
from surefoot.policies.base import AbstractPolicy, act, initial_memory
from surefoot.samplers.base import (
    AbstractCollector,
    AbstractSampler,
    StreamState,
    completed,
    finals_of_streams,
    indexed_keys,
    initial_memories,
)
from surefoot.types import Key, Observations, Rollout, Task, where_rows


@dataclass(frozen=True)
class ScanSampler(AbstractSampler, Options):
    """Whole episodes by a scan over time, vmapped over episodes and tasks. `sample` and `collect` are pure:
    they can be part of a larger program."""

    env: Any
    """A family that is traceable: it has the methods of `AbstractEnv`."""
    episodes: Annotated[int, at_least(1)]

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        check_time_limit(self.env)

    def collect(self, policy: AbstractPolicy, task: Task, state: None, key: Key) -> tuple[None, Rollout]:
        return state, _rollout(self, policy, task, key)

    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        return completed(_compiled_rollout, self, policy, task, key)

    def sample(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""] | int = 0
    ) -> Rollout:
        keys = indexed_keys(key, jax.tree.leaves(tasks)[0].shape[0], first)
        return eqx.filter_vmap(lambda *one: _rollout(self, *one))(policies, tasks, keys)


def _rollout(sampler: ScanSampler, policy: AbstractPolicy, task: Task, key: Key) -> Rollout:
    keys = indexed_keys(key, sampler.episodes)
    return jax.vmap(lambda k: _episode(sampler.env, policy, task, k))(keys)


_compiled_rollout = eqx.filter_jit(_rollout)


class _EpisodeState(eqx.Module):
    """An episode between two steps."""

    env_state: PyTree
    observation: Observations
    memory: PyTree
    running: Array


def _episode(env: Any, policy: AbstractPolicy, task: Task, key: Key) -> Rollout:
    """One episode, padded with zeros to the horizon."""
    keys = EpisodeKeys.of(key)
    times = jnp.arange(env.horizon)
    action_keys, step_keys = (
        jax.vmap(lambda t, k=k: jax.random.fold_in(k, t))(times) for k in (keys.actions, keys.steps)
    )

    def advance(now: _EpisodeState, xs: tuple[Array, Key, Key]) -> tuple[_EpisodeState, tuple[Any, ...]]:
        time, action_key, step_key = xs
        distribution, memory = act(policy, now.observation, now.memory)
        action = distribution.sample(action_key)
        step = env.step(step_key, now.env_state, action, task)
        terminated = now.running & step.terminated
        fields = (  # of `Rollout`, in their order
            now.observation,
            action,
            distribution.log_prob(action),
            step.reward,
            terminated,
            now.running & ~terminated & (time == env.horizon - 1),
            now.running,
            time,
        )
        following = _EpisodeState(step.state, step.observation, memory, now.running & ~terminated)
        padding = jax.tree.map(jnp.zeros_like, fields)
        return where_rows(now.running, following, now), where_rows(now.running, fields, padding)

    env_state, observation = env.reset(keys.reset, task)
    start = _EpisodeState(env_state, observation, initial_memory(policy), jnp.ones((), bool))
    end, fields = jax.lax.scan(advance, start, (times, action_keys, step_keys))
    return Rollout(*fields, final_observations=jax.tree.map(lambda x: x[None], end.observation))


class _Collection(eqx.Module):
    """Streams between two steps of a batch."""

    state: StreamState
    finals: Observations
    """The final observations so far. The next place holds what the last step led to."""
    place: Int[Array, " stream"]
    """The number of steps that were truncated."""


@dataclass(frozen=True)
class StreamSampler(AbstractCollector, Options):
    """Parallel environments of one task, `streams` of them, collected in batches of `steps` steps each. An
    episode that ends is followed by the next one in the same row, and an episode that is cut by the end of a
    batch continues in the next batch.

    All steps of a batch are valid, however long episodes are.
    """

    env: Any
    """A family that is traceable: it has the methods of `AbstractEnv`."""
    streams: Annotated[int, at_least(1)]
    steps: Annotated[int, at_least(1)]

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> StreamState:
        return self._reset(policy, task, jax.random.split(key, self.streams))

    def collect(
        self, policy: AbstractPolicy, task: Task, state: StreamState, key: Key
    ) -> tuple[StreamState, Rollout]:
        action_key, env_key = jax.random.split(key)
        keys = (
            jax.random.split(action_key, self.steps),
            jax.random.split(env_key, (self.steps, self.streams, 2)),
        )

        def advance(now: _Collection, keys: tuple[Key, Array]) -> tuple[_Collection, tuple[Any, ...]]:
            state, fields, led_to = self._step(policy, task, now.state, *keys)
            *_, truncated, _, _ = fields
            finals = jax.tree.map(jax.vmap(lambda all, i, x: all.at[i].set(x)), now.finals, now.place, led_to)
            return _Collection(state, finals, now.place + truncated.astype(jnp.int32)), fields

        shape = self.streams, finals_of_streams(self.env, self.steps)
        finals = jax.tree.map(lambda x: jnp.zeros((*shape, *x.shape[1:]), x.dtype), state.observations)
        start = _Collection(state, finals, jnp.zeros(self.streams, jnp.int32))
        end, fields = jax.lax.scan(advance, start, keys)
        fields = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), fields)
        return end.state, Rollout(*fields, final_observations=end.finals, memory=state.memory)

    def _step(
        self, policy: AbstractPolicy, task: Task, now: StreamState, action_key: Key, env_keys: Array
    ) -> tuple[StreamState, tuple[Any, ...], Observations]:
        """The next state, the step's fields of `Rollout`, and the observation after it, before any reset."""
        distribution, memory = act(policy, now.observations, now.memory)
        actions = distribution.sample(action_key)
        one = jax.vmap(lambda k, state, action: self.env.step(k, state, action, task))
        step = one(env_keys[:, 0], now.env_state, actions)
        times = now.times + 1
        truncated = ~step.terminated & (times == self.env.horizon)
        fields = (  # of `Rollout`, in their order
            now.observations,
            actions,
            distribution.log_prob(actions),
            step.reward,
            step.terminated,
            truncated,
            jnp.ones_like(truncated),
            now.times,
        )
        following = StreamState(step.state, step.observation, times, memory)
        new = self._reset(policy, task, env_keys[:, 1])
        return where_rows(step.terminated | truncated, new, following), fields, step.observation

    def _reset(self, policy: AbstractPolicy, task: Task, keys: Array) -> StreamState:
        """A new episode in every stream."""
        env_state, observations = jax.vmap(lambda k: self.env.reset(k, task))(keys)
        times = jnp.zeros(self.streams, jnp.int32)
        return StreamState(env_state, observations, times, initial_memories(policy, self.streams))
