"""Walker2d: walk forward, in a given direction, at a given speed, or with random dynamics."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, uniform_start
from surefoot.envs.mujoco.dynamics import AbstractParameters, Multipliers
from surefoot.envs.mujoco.family import AbstractDirections, AbstractPlain, AbstractVelocities
from surefoot.envs.mujoco.snapshot import Snapshot, forward_velocity, squared, walking


@dataclass(frozen=True)
class Walker2dBody(AbstractBody):
    """Two planar legs, seven links. It has fallen when its torso is not between 0.8 and 2 m or leans by 1 rad
    or more."""

    xml = "walker2d_v5.xml"
    frame_skip = 4

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return uniform_start(model, generator, noise=5e-3)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        return np.concatenate([now.qpos[:, 1:], np.clip(now.qvel, -10, 10)], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        z, angle = now.qpos[:, 1], now.qpos[:, 2]
        return ~((z > 0.8) & (z < 2) & (np.abs(angle) < 1))


@dataclass(frozen=True)
class Walker2d(AbstractPlain):
    """Gymnasium's Walker2d-v5: walk forward. One task, without content: `[0]`.

    Reward: forward velocity in m/s, and 1 unless it has fallen, less 0.001 times the squared control.
    """

    body = Walker2dBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        return walking(before, after, self.dt, self.body.terminated(after), controls)


@dataclass(frozen=True)
class Walker2dDirection(AbstractDirections):
    """Walk forward or backward (Rothfuss et al., 2019: ProMP). Task: the direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, plus 1, less 0.001 times the squared control. ProMP's code acts
    every 16 ms; this acts every 8 ms, as Gymnasium does.
    """

    body = Walker2dBody()
    horizon: int = 200

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        return tasks * forward_velocity(before, after, self.dt) + 1 - 1e-3 * squared(controls)


@dataclass(frozen=True)
class Walker2dVelocity(AbstractVelocities):
    """Walk at a given speed (Rothfuss et al., 2019: ProMP). Task: the speed in m/s, `[]`, uniform from 0 to
    `max_speed`.

    Reward: minus the distance of the velocity to it, plus 1.5 times `max_speed`, less 0.001 times the squared
    control. ProMP's code has speeds up to 10 m/s, which no policy reaches, and 15 for being alive; in
    proportion, it never pays to fall. It acts every 16 ms, this every 8 ms.
    """

    body = Walker2dBody()
    horizon: int = 200
    max_speed: float = 2.0

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        distance = np.abs(forward_velocity(before, after, self.dt) - tasks)
        return 1.5 * self.max_speed - distance - 1e-3 * squared(controls)


@dataclass(frozen=True)
class Walker2dParameters(AbstractParameters):
    """Walk forward with random dynamics (ProMP's rand_param_envs). Task: see `AbstractParameters`.

    Reward: as in `Walker2d`. The original pays the 1 for the step of the fall too.
    """

    body = Walker2dBody()
    horizon: int = 200
    spread: float = 3.0

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: Multipliers
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        return walking(before, after, self.dt, self.body.terminated(after), controls)
