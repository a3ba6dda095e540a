"""Episodes recorded for a video: the body's positions at every step, before and after adaptation."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt32

from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.envs.simulation import AbstractSimulator, Outcome
from surefoot.experiment.evaluation import adapt
from surefoot.experiment.run import Run
from surefoot.rules import AbstractRule
from surefoot.samplers.host_rollouts import key_data, rollout_episodes
from surefoot.samplers.record import Record
from surefoot.types import Key, Rollout, Task


@dataclass(frozen=True)
class Film:
    """One episode, or its beginning."""

    label: str
    """Whether it is before or after adaptation; empty if the policy does not adapt."""
    task: Task
    model: Any
    """MuJoCo's model of the task."""
    positions: Float[np.ndarray, "time nq"]
    """Positions at the beginning and after each step."""
    returns: Float[np.ndarray, " time"]
    """Sum of the rewards until then."""
    terminated: bool


def film(
    run: Run,
    env: AbstractMujocoFamily,
    tasks: Task,
    key: Key,
    *,
    steps: int,
    episodes: int,
    limit: int,
    inner: AbstractRule | None = None,
) -> list[list[Film]]:
    """For each task (`tasks` has a leading axis) an episode of the trained policy and, unless `steps` is 0,
    an episode with the same start after `steps` inner steps on `episodes` new episodes each. An episode has
    at most `limit` steps."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    adapt_key, episode_key = jax.random.split(key)
    keys = jax.random.split(episode_key, (count, 1))
    learner = run.state.learner
    adapter, adaptation = adapt(
        run.config, learner, tasks, adapt_key, steps=steps, episodes=episodes, inner=inner
    )
    phases = {"before" if steps else "": adaptation.learners[0]}
    if steps:
        phases[f"after {steps} step{'s' * (steps != 1)}"] = adaptation.learners[-1]
    with closing(_Recorder(env.simulator(1))) as recorder:
        columns = []
        for label, learners in phases.items():
            acting = eqx.filter_vmap(adapter.acting)(learners)
            record = Record(env, count, min(limit, env.horizon or limit))
            rollout_episodes(recorder, acting, tasks, key_data(keys), record, np.arange(count))
            rollout = record.rollout((count, 1))
            columns.append(list(_films(label, env, tasks, recorder.positions, rollout)))
    return [list(row) for row in zip(*columns, strict=True)]


def far_apart(tasks: Task, n: int) -> Int[np.ndarray, " chosen"]:
    """The indices of `n` tasks that differ as much as possible, fewer if fewer differ: the first task, and
    then repeatedly the one farthest from those already chosen (Gonzalez, 1985)."""
    points = np.concatenate([np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(tasks)], axis=1)
    chosen = [0]
    while len(chosen) < n:
        gaps = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(axis=1)
        if not gaps.max():
            break
        chosen.append(int(gaps.argmax()))
    return np.array(chosen)


def _films(
    label: str, env: AbstractMujocoFamily, tasks: Task, positions: list[np.ndarray], rollout: Rollout
) -> Iterator[Film]:
    tasks, rollout = jax.tree.map(np.asarray, (tasks, rollout))
    for row, model in enumerate(env.models(tasks, len(positions[0]))):
        length = int(rollout.valid[row, 0].sum())
        yield Film(
            label,
            jax.tree.map(lambda x: np.asarray(x[row]), tasks),  # noqa: B023 (called at once)
            model,
            np.stack([now[row] for now in positions[: length + 1]]),
            np.concatenate([[0.0], np.cumsum(rollout.rewards[row, 0, :length], dtype=float)]),
            bool(rollout.terminated[row].any()),
        )


class _Recorder(AbstractSimulator):
    """A MuJoCo simulator that records every row's positions after each step."""

    def __init__(self, simulator: Any) -> None:
        self._simulator = simulator
        self.positions: list[Float[np.ndarray, "rows nq"]] = []

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> Float[np.ndarray, "rows obs"]:
        observations = self._simulator.begin(keys, tasks)
        self.positions = [self._simulator.snapshot(np.arange(len(keys))).qpos.copy()]
        return observations

    def renew(
        self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]
    ) -> Float[np.ndarray, "n obs"]:
        return self._simulator.renew(rows, keys)

    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n ..."]) -> Outcome:
        outcome = self._simulator.step(rows, actions)
        now, qpos = self.positions[-1].copy(), self._simulator.snapshot(rows).qpos
        sound = np.isfinite(qpos).all(axis=1)  # a diverged state cannot be drawn
        now[rows[sound]] = qpos[sound]
        self.positions.append(now)
        return outcome

    def close(self) -> None:
        self._simulator.close()
