"""HalfCheetah: run forward, in a given direction, or at a given speed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, normal_start
from surefoot.envs.mujoco.family import AbstractDirections, AbstractPlain, AbstractVelocities
from surefoot.envs.mujoco.snapshot import Snapshot, forward_velocity, squared


@dataclass(frozen=True)
class HalfCheetahBody(AbstractBody):
    """A planar cheetah of seven links. It never falls for good."""

    xml = "half_cheetah.xml"
    frame_skip = 5

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return normal_start(model, generator, noise=0.1)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        return np.concatenate([now.qpos[:, 1:], now.qvel], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        return np.zeros(len(now.qpos), bool)


@dataclass(frozen=True)
class HalfCheetah(AbstractPlain):
    """Gymnasium's HalfCheetah-v5: run forward. One task, without content: `[0]`.

    Reward: forward velocity in m/s, less 0.1 times the squared control.
    """

    body = HalfCheetahBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        return forward_velocity(before, after, self.dt) - 0.1 * squared(controls)


@dataclass(frozen=True)
class HalfCheetahDirection(AbstractDirections):
    """Run forward or backward (Finn et al., 2017, sec. 5.3). Task: the direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, less 0.05 times the squared control. The paper's simulator
    measured the velocity of the torso's centre of mass at the end of the step; this is the mean velocity of
    the torso's root over the step, as in Gymnasium.
    """

    body = HalfCheetahBody()
    horizon: int = 100

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        return tasks * forward_velocity(before, after, self.dt) - 0.05 * squared(controls)


@dataclass(frozen=True)
class HalfCheetahVelocity(AbstractVelocities):
    """Run at a given speed (Finn et al., 2017, sec. 5.3). Task: the speed in m/s, `[]`, uniform from 0 to
    `max_speed`.

    Reward: minus the distance of the velocity to it, less 0.05 times the squared control. Of velocities the
    same holds as in `HalfCheetahDirection`.
    """

    body = HalfCheetahBody()
    horizon: int = 200
    max_speed: float = 2.0

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        distance = np.abs(forward_velocity(before, after, self.dt) - tasks)
        return -distance - 0.05 * squared(controls)
