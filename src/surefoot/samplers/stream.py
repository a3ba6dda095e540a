"""The stream sampler: environments side by side that never stop, in fixed numbers of steps."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.envs.base import AbstractEnv
from surefoot.options import check
from surefoot.policies.base import AbstractPolicy, act, initial_memory
from surefoot.samplers.base import AbstractCollector
from surefoot.types import Key, Rollout, Task


class Streams(eqx.Module):
    """Where every stream stands. All axes begin with `stream`."""

    state: PyTree
    observation: Array
    time: Array
    """Steps since the episode began."""
    memory: PyTree


@dataclass(frozen=True)
class StreamSampler(AbstractCollector):
    """One task, `streams` times side by side, `steps` of each a batch. An episode that ends is followed by
    the next within the same row, and one that the batch's end cuts off goes on in the batch after it.

    Every batch has the same number of steps, all of them valid, however long episodes are.
    """

    env: AbstractEnv  # pyright: ignore[reportIncompatibleVariableOverride] (narrower, and only read)
    streams: int
    steps: int

    def __post_init__(self) -> None:
        check(self.streams >= 1, "streams", self.streams, "1 or more")
        check(self.steps >= 1, "steps", self.steps, "1 or more")

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> Streams:
        keys = jax.random.split(key, self.streams)
        state, observation = jax.vmap(lambda k: self.env.reset(k, task))(keys)
        return Streams(state, observation, jnp.zeros(self.streams, jnp.int32), self._forgotten(policy))

    def collect(
        self, policy: AbstractPolicy, task: Task, where: Streams, key: Key
    ) -> tuple[Streams, Rollout]:
        action_key, env_key = jax.random.split(key)
        keys = (
            jax.random.split(action_key, self.steps),
            jax.random.split(env_key, (self.steps, self.streams, 2)),
        )

        def advance(now: Streams, keys: tuple[Key, Array]) -> tuple[Streams, dict[str, Array]]:
            return self._step(policy, task, now, *keys)

        end, record = jax.lax.scan(advance, where, keys)
        record = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), record)
        return end, Rollout(**record, memory=where.memory)

    def _step(
        self, policy: AbstractPolicy, task: Task, now: Streams, action_key: Key, env_keys: Array
    ) -> tuple[Streams, dict[str, Array]]:
        distribution, memory = act(policy, now.observation, now.memory)
        actions = distribution.sample(action_key)
        one = jax.vmap(lambda k, state, action: self.env.step(k, state, action, task))
        step = one(env_keys[:, 0], now.state, actions)
        time = now.time + 1
        truncated = ~step.terminated & (time == self.env.horizon)
        record = {
            "observations": now.observation,
            "actions": actions,
            "log_probs": distribution.log_prob(actions),
            "rewards": step.reward,
            "terminated": step.terminated,
            "truncated": truncated,
            "valid": jnp.ones_like(truncated),
            "next_observations": step.observation,
            "times": now.time,
        }
        state, observation = jax.vmap(lambda k: self.env.reset(k, task))(env_keys[:, 1])
        anew = Streams(state, observation, jnp.zeros_like(time), self._forgotten(policy))
        on = Streams(step.state, step.observation, time, memory)
        return _where(step.terminated | truncated, anew, on), record

    def _forgotten(self, policy: AbstractPolicy) -> PyTree:
        fresh = initial_memory(policy)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.streams, *x.shape)), fresh)


def _where(condition: Array, yes: Any, no: Any) -> Any:
    """For each stream, one or the other."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(jnp.expand_dims(condition, tuple(range(1, a.ndim))), a, b)

    return jax.tree.map(choose, yes, no)
