"""Episodes played to be looked at: where the body was, step by step, before adaptation and after it."""

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
from surefoot.types import Key, Task


@dataclass(frozen=True)
class Film:
    """One episode, from its beginning to its end, or as much of it as was wanted."""

    label: str
    """Whose it is: before adaptation, or after it."""
    task: Task
    model: Any
    """The task's own."""
    positions: Float[np.ndarray, "time nq"]
    """At the beginning and after each step."""
    returns: Float[np.ndarray, " time"]
    """The sum of the rewards until then."""
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
    """For each task (`tasks` has a leading axis) one episode of the policy as it was trained, and if `steps`
    is not 0 another, which begins alike, after so many inner steps on `episodes` fresh episodes each. None is
    played for more than `limit` steps."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    adapt_key, play_key = jax.random.split(key)
    keys = jax.random.split(play_key, (count, 1))
    learner = run.state.learner
    adapter, adaptation = adapt(
        run.config, learner, tasks, adapt_key, steps=steps, episodes=episodes, inner=inner
    )
    phases = {"before" if steps else "": adaptation.learners[0]}
    if steps:
        phases[f"after {steps} step{'s' * (steps != 1)}"] = adaptation.learners[-1]
    with closing(_Recorder(env.simulator(1))) as recorder:
        rows = []
        for label, learners in phases.items():
            acting = eqx.filter_vmap(adapter.acting)(learners)
            record = Record(env, count, min(limit, env.horizon))
            rollout_episodes(recorder, acting, tasks, key_data(keys), record, np.arange(count))
            rollout = record.rollout((count, 1))
            rows.append(list(_films(label, env, tasks, recorder, rollout)))
    return [list(columns) for columns in zip(*rows, strict=True)]


def far_apart(tasks: Task, n: int) -> Int[np.ndarray, " chosen"]:
    """Which `n` of the tasks to look at, fewer if there are fewer that differ: the first of them, and then
    always the one farthest from those chosen already (Gonzalez, 1985)."""
    points = np.concatenate([np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(tasks)], axis=1)
    chosen = [0]
    while len(chosen) < n:
        gaps = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(axis=1)
        if not gaps.max():
            break
        chosen.append(int(gaps.argmax()))
    return np.array(chosen)


def _films(
    label: str, env: AbstractMujocoFamily, tasks: Task, recorder: "_Recorder", rollout: Any
) -> Iterator[Film]:
    hosted = jax.tree.map(np.asarray, tasks)
    positions = np.stack(recorder.positions, axis=1)
    models = env.models(hosted, len(positions))
    rewards, terminated = np.asarray(rollout.rewards)[:, 0], np.asarray(rollout.terminated)[:, 0]
    for row, model in enumerate(models):
        length = int(np.asarray(rollout.valid)[row, 0].sum())
        yield Film(
            label,
            jax.tree.map(lambda x: np.asarray(x[row]), hosted),  # noqa: B023 (called at once)
            model,
            positions[row, : length + 1],
            np.concatenate([[0.0], np.cumsum(rewards[row, :length], dtype=float)]),
            bool(terminated[row].any()),
        )


class _Recorder(AbstractSimulator):
    """A MuJoCo simulator that remembers where every row was after each step."""

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
        sound = np.isfinite(qpos).all(axis=1)  # what has diverged cannot be drawn
        now[rows[sound]] = qpos[sound]
        self.positions.append(now)
        return outcome

    def close(self) -> None:
        self._simulator.close()
