"""Swimmer: swim forward or in a given direction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, uniform_start
from surefoot.envs.mujoco.family import AbstractDirections, AbstractPlain
from surefoot.envs.mujoco.snapshot import Snapshot, forward_velocity, squared


@dataclass(frozen=True)
class SwimmerBody(AbstractBody):
    """Three links in a viscous fluid. It cannot fall."""

    xml = "swimmer.xml"
    frame_skip = 4

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return uniform_start(model, generator, noise=0.1)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        return np.concatenate([now.qpos[:, 2:], now.qvel], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        return np.zeros(len(now.qpos), bool)


@dataclass(frozen=True)
class Swimmer(AbstractPlain):
    """Gymnasium's Swimmer-v5: swim forward. One task, without content: `[0]`.

    Reward: forward velocity in m/s, less 0.0001 times the squared control.
    """

    body = SwimmerBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        return forward_velocity(before, after, self.dt) - 1e-4 * squared(controls)


@dataclass(frozen=True)
class SwimmerDirection(AbstractDirections):
    """Swim forward or backward: `Swimmer`, after the directions of Finn et al. (2017, sec. 5.3). Task: the
    direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, less 0.0001 times the squared control.
    """

    body = SwimmerBody()
    horizon: int = 200

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        return tasks * forward_velocity(before, after, self.dt) - 1e-4 * squared(controls)
