"""Humanoid: walk forward or in a given direction of the plane."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, uniform_start
from surefoot.envs.mujoco.family import AbstractHeadings, AbstractPlain
from surefoot.envs.mujoco.snapshot import Snapshot, squared

_ROOT = 6
"""Degrees of freedom that no motor moves."""


@dataclass(frozen=True)
class HumanoidBody(AbstractBody):
    """A body of thirteen links. It has fallen when its torso is not between 1 and 2 m.

    It sees its position but for x and y, its velocity, and of every body the inertia, the velocity and the
    force on it from outside, and the torques of its motors.
    """

    xml = "humanoid.xml"
    frame_skip = 5
    measured = ("xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return uniform_start(model, generator, noise=0.01)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        rows, seen = len(now.qpos), now.measured
        inertias, velocities, forces = (
            seen[name][:, 1:].reshape(rows, -1) for name in ("cinert", "cvel", "cfrc_ext")
        )
        torques = seen["qfrc_actuator"][:, _ROOT:]
        return np.concatenate([now.qpos[:, 2:], now.qvel, inertias, velocities, torques, forces], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        z = now.qpos[:, 2]
        return ~((z > 1) & (z < 2))


@dataclass(frozen=True)
class Humanoid(AbstractPlain):
    """Gymnasium's Humanoid-v5: walk forward. One task, without content: `[0]`.

    Reward: 1.25 times the forward velocity of the centre of mass in m/s, and 5 unless it has fallen, less 0.1
    times the squared control and 5e-7 times the squared forces from outside, at most 10. Action: within ±0.4.
    """

    body = HumanoidBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        velocity = _velocity(before, after, self.model.body_mass, self.dt)[:, 0]
        return 1.25 * velocity + 5.0 * ~self.body.terminated(after) - _costs(after, controls)


@dataclass(frozen=True)
class HumanoidHeading(AbstractHeadings):
    """Walk in a given direction of the plane (Rothfuss et al., 2019: ProMP). Task: a unit vector, `[2]`,
    uniform on the circle.

    Reward: 1.25 times the velocity of the centre of mass in that direction in m/s, plus 5, less the costs of
    `Humanoid`. That is ProMP's: its code divides by the physics' time step and multiplies by 0.25. Its
    observations had the world and the root's absent motors in them, which are zero.
    """

    body = HumanoidBody()
    horizon: int = 200

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        velocity = _velocity(before, after, self.model.body_mass, self.dt)
        return 1.25 * np.sum(tasks * velocity, axis=1) + 5.0 - _costs(after, controls)


def _velocity(
    before: Snapshot, after: Snapshot, masses: Float[np.ndarray, " bodies"], dt: float
) -> Float[np.ndarray, "rows 2"]:
    """Of the centre of mass in the plane: the mean over the step."""
    moved = (after.measured["xipos"] - before.measured["xipos"])[:, :, :2]
    return np.einsum("b,rbj->rj", masses, moved) / masses.sum() / dt


def _costs(after: Snapshot, controls: Float[np.ndarray, "rows nu"]) -> Float[np.ndarray, " rows"]:
    impact = 5e-7 * squared(after.measured["cfrc_ext"].reshape(len(controls), -1))
    return 0.1 * squared(controls) + np.minimum(impact, 10.0)
