"""surefoot's samplers: policies evaluated and everything recorded."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sampling_busy
from sampling_problem import CHECKED, Problem, Recording, Workers

from surefoot import envs
from surefoot.policies import GaussianMLP
from surefoot.samplers import AbstractSampler, BatchedSampler, ProcessSampler
from surefoot.samplers.action_sampler import ActionSampler
from surefoot.samplers.base import indexed_keys
from surefoot.samplers.host_rollouts import key_data, repeat_rows
from surefoot.types import ActionSpace, Continuous, Rollout

KEY = 0
"""Of all that is sampled: every round plays the same episodes."""


def record(problem: Problem, path: Path) -> None:
    """What the batched sampler plays, written to `path` for the sides that have no policy."""
    side = Batched(problem, problem.tasks, problem.episodes, threads=1)
    rollout = jax.tree.map(lambda x: np.asarray(x).reshape(problem.environments, *x.shape[2:]), side.sample())
    drawn = np.random.default_rng(0).standard_normal(rollout.actions.shape).astype(np.float32)
    qpos, qvel = _beginnings(problem, side)
    Recording(
        np.where(rollout.valid[..., None], rollout.actions, drawn),
        rollout.valid.sum(axis=1),
        qpos,
        qvel,
        rollout.next_observations[:, min(CHECKED, problem.steps) - 1],
    ).save(path)


def _beginnings(problem: Problem, side: "Batched") -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities at the start of the episodes that `side` samples."""
    keys = indexed_keys(jax.random.key(KEY), problem.tasks)
    keys = jax.vmap(lambda key: indexed_keys(key, problem.episodes))(keys).reshape(-1)
    simulator: Any = side.env.simulator(1)
    simulator.begin(key_data(keys), repeat_rows(side.tasks, problem.episodes))
    now = simulator.snapshot(np.arange(len(keys)))
    simulator.close()
    return now.qpos, now.qvel


def _policies(tasks: int, hidden: tuple[int, ...], observation_space: Any, space: ActionSpace) -> Any:
    """One for each task."""
    policy = GaussianMLP(hidden=hidden).build(jax.random.key(1), observation_space, space)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (tasks, *x.shape)), policy)


class Deciding:
    """The same policies, for environments that are not surefoot's. Nothing is recorded."""

    def __init__(self, policies: int, steps: int, hidden: tuple[int, ...]) -> None:
        self._count, self._steps, self._hidden = policies, steps, hidden

    def begin(self, observations: np.ndarray, space: Any) -> None:
        """`space` is that of one action."""
        size, act = observations.shape[1], Continuous(*space.shape)
        self._policies = _policies(self._count, self._hidden, size, act)
        self._keys = jax.random.split(jax.random.key(KEY), (self._count, len(observations) // self._count))
        self._seen, self._space = observations, space

    def play(self, step: Callable[[np.ndarray], Any]) -> None:
        """So many steps."""
        action_sampler, space = ActionSampler(self._policies, key_data(self._keys)), self._space
        for time in range(self._steps):
            actions, _ = action_sampler.act(self._seen.astype(np.float32), time)
            self._seen = step(np.clip(actions, space.low, space.high).astype(space.dtype))[0]


class _Side:
    """A sampler, and policies and tasks for it."""

    def __init__(self, sampler: AbstractSampler, tasks: int, hidden: tuple[int, ...]) -> None:
        env = self.env = sampler.env
        self._sampler = sampler
        self._policies = _policies(tasks, hidden, env.observation_space, env.action_space)
        self.tasks = env.sample_tasks(jax.random.key(2), tasks)
        jax.block_until_ready(self._policies)

    def sample(self) -> Rollout:
        return jax.block_until_ready(self._sampler.sample(self._policies, self.tasks, jax.random.key(KEY)))

    def begin(self) -> int:
        """Starts and compiles whatever there is; the bytes of a rollout."""
        return sum(x.nbytes for x in jax.tree.leaves(self.sample()))

    def play(self) -> int:
        """Steps of the environments."""
        return int(np.asarray(self.sample().valid).sum())

    def close(self) -> None:
        self._sampler.close()


class Batched(_Side):
    """All environments in step, a policy for each task."""

    def __init__(self, problem: Problem, tasks: int, episodes: int, threads: int) -> None:
        env = getattr(envs, problem.body.family)(horizon=problem.steps)
        _Side.__init__(self, BatchedSampler(env, episodes, threads), tasks, problem.hidden)


class Processes(_Side):
    """An environment of Gymnasium's, in worker processes."""

    def __init__(self, problem: Workers, workers: int) -> None:
        multiprocessing.current_process().daemon = False  # a daemon may have no processes of its own
        os.environ[sampling_busy.WORK] = str(problem.work)
        env = envs.Gymnasium(problem.name, time_limit=problem.steps)
        sampler = ProcessSampler(env, problem.episodes, workers=workers, time_limit=600.0, attempts=1)
        _Side.__init__(self, sampler, problem.tasks, problem.hidden)
