"""Reacher: an arm brings its fingertip to a target."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position
from surefoot.envs.mujoco.family import AbstractPlain
from surefoot.envs.mujoco.snapshot import Snapshot, squared

_FINGERTIP, _TARGET = 3, 4
"""Among the model's bodies."""


@dataclass(frozen=True)
class ReacherBody(AbstractBody):
    """A planar arm of two links, and a target within its reach, anew in every episode, which it sees."""

    xml = "reacher.xml"
    frame_skip = 2
    measured = ("xpos",)

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        qpos = generator.uniform(-0.1, 0.1, model.nq) + model.qpos0
        target = generator.uniform(-0.2, 0.2, 2)
        while np.linalg.norm(target) >= 0.2:
            target = generator.uniform(-0.2, 0.2, 2)
        qvel = generator.uniform(-5e-3, 5e-3, model.nv)
        qpos[-2:], qvel[-2:] = target, 0
        return qpos, qvel

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        angles, target = now.qpos[:, :2], now.qpos[:, 2:]
        parts = [np.cos(angles), np.sin(angles), target, now.qvel[:, :2], _miss(now)[:, :2]]
        return np.concatenate(parts, axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        return np.zeros(len(now.qpos), bool)


@dataclass(frozen=True)
class Reacher(AbstractPlain):
    """Gymnasium's Reacher-v5: reach the target and stay there. One task, without content: `[0]`.

    Reward: minus the distance of the fingertip to the target in metres, less the squared control.
    """

    body = ReacherBody()
    horizon: int = 50

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del before, tasks
        return -np.linalg.norm(_miss(after), axis=1) - squared(controls)


def _miss(now: Snapshot) -> Float[np.ndarray, "rows 3"]:
    """From the target to the fingertip, in metres."""
    return now.measured["xpos"][:, _FINGERTIP] - now.measured["xpos"][:, _TARGET]
