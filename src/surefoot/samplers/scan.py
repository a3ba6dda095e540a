"""The scan sampler: environments written in JAX, stepped inside one compiled program."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from surefoot.envs.base import AbstractEnv
from surefoot.envs.simulation import EpisodeKeys
from surefoot.options import check
from surefoot.policies.base import AbstractPolicy, act, initial_memory
from surefoot.samplers.base import AbstractSampler, at_once
from surefoot.samplers.host_rollouts import episode_keys
from surefoot.types import Key, Rollout, Task


@dataclass(frozen=True)
class ScanSampler(AbstractSampler):
    """A scan over time, vmapped over episodes and tasks. `sample` is pure: it can be part of a larger
    program."""

    env: AbstractEnv  # pyright: ignore[reportIncompatibleVariableOverride] (narrower, and only read)
    episodes: int

    def __post_init__(self) -> None:
        check(self.episodes >= 1, "episodes", self.episodes, "1 or more")

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> None:
        """Every batch begins anew, with whole episodes."""
        del policy, task, key

    def collect(self, policy: AbstractPolicy, task: Task, where: None, key: Key) -> tuple[None, Rollout]:
        del where
        return None, _task(self, policy, task, key)

    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        return at_once(_sample_task, self, policy, task, key)

    def sample(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""] | int = 0
    ) -> Rollout:
        count = jax.tree.leaves(tasks)[0].shape[0]
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.int32))
        return eqx.filter_vmap(lambda *one: _task(self, *one))(policies, tasks, keys)


@eqx.filter_jit
def _sample_task(sampler: ScanSampler, policy: AbstractPolicy, task: Task, key: Key) -> Rollout:
    return _task(sampler, policy, task, key)


def _task(sampler: ScanSampler, policy: AbstractPolicy, task: Task, key: Key) -> Rollout:
    keys = episode_keys(key, sampler.episodes)
    return jax.vmap(lambda k: _episode(sampler.env, policy, task, k))(keys)


class _Now(eqx.Module):
    """An episode in progress."""

    state: PyTree
    observation: Array
    memory: PyTree
    running: Array


def _episode(env: AbstractEnv, policy: AbstractPolicy, task: Task, key: Key) -> Rollout:
    """One episode, padded to the horizon; what follows its end is zero."""
    keys = EpisodeKeys.of(key)
    times = jnp.arange(env.horizon)
    action_keys, step_keys = (
        jax.vmap(lambda t, k=k: jax.random.fold_in(k, t))(times) for k in (keys.actions, keys.steps)
    )

    def advance(now: _Now, xs: tuple[Array, Key, Key]) -> tuple[_Now, dict[str, Array]]:
        time, action_key, step_key = xs
        distribution, memory = act(policy, now.observation, now.memory)
        action = distribution.sample(action_key)
        step = env.step(step_key, now.state, action, task)
        terminated = now.running & step.terminated
        record = {
            "observations": now.observation,
            "actions": action,
            "log_probs": distribution.log_prob(action),
            "rewards": step.reward,
            "terminated": terminated,
            "truncated": now.running & ~terminated & (time == env.horizon - 1),
            "valid": now.running,
            "next_observations": step.observation,
            "times": time,
        }
        record = _where(now.running, record, jax.tree.map(jnp.zeros_like, record))
        following = _Now(step.state, step.observation, memory, now.running & ~terminated)
        return _where(now.running, following, now), record

    state, observation = env.reset(keys.reset, task)
    start = _Now(state, observation, initial_memory(policy), jnp.ones((), bool))
    _, record = jax.lax.scan(advance, start, (times, action_keys, step_keys))
    return Rollout(**record)


def _where(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
