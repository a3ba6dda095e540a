"""Episodes recorded for a video: every step of each, before and after adaptation."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

from surefoot.algorithms.adaptation import begin_all
from surefoot.experiment.evaluation import adapt
from surefoot.experiment.run import Run
from surefoot.report.cameras import AbstractCamera, Recorder
from surefoot.rules import AbstractRule
from surefoot.samplers.host_rollouts import key_data, rollout_episodes
from surefoot.samplers.record import Record
from surefoot.types import Key, Task


@dataclass(frozen=True)
class Film:
    """One episode, or its beginning."""

    label: str
    """Whether it is before or after adaptation; empty if the policy does not adapt."""
    row: int
    """The number of the task."""
    recorded: list[Any]
    """Records of the camera at the beginning and after each step."""
    returns: Float[np.ndarray, " time"]
    """Sum of the rewards until then."""
    terminated: bool


def film(
    run: Run,
    camera: AbstractCamera,
    key: Key,
    *,
    steps: int,
    episodes: int,
    limit: int,
    inner: AbstractRule | None = None,
) -> list[list[Film]]:
    """For each of the camera's tasks an episode of the trained policy and, unless `steps` is 0, an episode
    with the same start after `steps` inner steps on `episodes` new episodes each. An episode has at most
    `limit` steps."""
    tasks: Task = jax.tree.map(jax.numpy.asarray, camera.tasks)
    count = jax.tree.leaves(tasks)[0].shape[0]
    adapt_key, episode_key = jax.random.split(key)
    keys = jax.random.split(episode_key, (count, 1))
    learner = run.state.learner
    if steps:
        adapter, adaptation = adapt(
            run.config, learner, tasks, adapt_key, steps=steps, episodes=episodes, inner=inner
        )
        after = f"after {steps} step{'s' * (steps != 1)}"
        phases = {"before": adaptation.learners[0], after: adaptation.learners[-1]}
    else:
        adapter = run.config.algorithm.adapter(run.config.estimator, learner, inner)
        phases = {"": begin_all(adapter, learner.policy, count)}
    with closing(Recorder(camera)) as recorder:
        columns = []
        for label, learners in phases.items():
            acting = eqx.filter_vmap(adapter.acting)(learners)
            horizon = camera.env.horizon
            record = Record(camera.env, count, min(limit, horizon) if horizon else limit)
            rollout_episodes(recorder, acting, tasks, key_data(keys), record, np.arange(count))
            rollout = jax.tree.map(np.asarray, record.rollout((count, 1)))
            columns.append([_film(label, row, recorder.recorded, rollout) for row in range(count)])
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


def _film(label: str, row: int, recorded: list[list[Any]], rollout: Any) -> Film:
    length = int(rollout.valid[row, 0].sum())
    return Film(
        label,
        row,
        [now[row] for now in recorded[: length + 1]],
        np.concatenate([[0.0], np.cumsum(rollout.rewards[row, 0, :length], dtype=float)]),
        bool(rollout.terminated[row].any()),
    )
