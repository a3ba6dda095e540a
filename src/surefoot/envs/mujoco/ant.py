"""Ant: run forward, in a given direction, at a given speed, or to a given place.

Velocities are the torso's, mean over the step, as in Gymnasium; the MAML paper's simulator measured those of
the torso's centre of mass at the end of the step. Contact forces are as MuJoCo computes them now: between its
versions 2.0 and Gymnasium's environments of version 5, most libraries saw zeros in their place.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, normal_start
from surefoot.envs.mujoco.family import (
    AbstractDirections,
    AbstractHeadings,
    AbstractPlain,
    AbstractRewards,
    AbstractVelocities,
)
from surefoot.envs.mujoco.snapshot import Snapshot, squared
from surefoot.options import check
from surefoot.types import Key

_TORSO = 1
"""Among the model's bodies."""


@dataclass(frozen=True)
class AntBody(AbstractBody):
    """A torso on four legs, thirteen links. It has fallen when its torso is not between 0.2 and 1 m.

    It sees its position but for x and y, its velocity, and the force on every body from outside, clipped to
    ±1.
    """

    xml = "ant.xml"
    frame_skip = 5
    measured = ("xpos", "cfrc_ext")
    knows_place: bool = False
    """It sees x and y too."""

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return normal_start(model, generator, noise=0.1)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        position = now.qpos if self.knows_place else now.qpos[:, 2:]
        forces = np.clip(now.measured["cfrc_ext"][:, 1:], -1, 1).reshape(len(position), -1)
        return np.concatenate([position, now.qvel, forces], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        finite = np.isfinite(np.concatenate([now.qpos, now.qvel], axis=1)).all(axis=1)
        z = now.qpos[:, 2]
        return ~(finite & (z >= 0.2) & (z <= 1))


@dataclass(frozen=True)
class Ant(AbstractPlain):
    """Gymnasium's Ant-v5: run forward. One task, without content: `[0]`.

    Reward: forward velocity in m/s, and 1 unless it has fallen, less 0.5 times the squared control and 0.0005
    times the squared contact forces, each clipped to ±1.
    """

    body = AntBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        velocity = _velocity(before, after, self.dt)[:, 0]
        return velocity + ~self.body.terminated(after) - _costs(after, controls, control=0.5)


@dataclass(frozen=True)
class AntDirection(AbstractDirections):
    """Run forward or backward (Finn et al., 2017, sec. 5.3). Task: the direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, plus 0.05, less 0.005 times the squared control and 0.0005
    times the squared contact forces, each clipped to ±1.
    """

    body = AntBody()
    horizon: int = 200

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        velocity = _velocity(before, after, self.dt)[:, 0]
        return tasks * velocity + 0.05 - _costs(after, controls, control=5e-3)


@dataclass(frozen=True)
class AntVelocity(AbstractVelocities):
    """Run at a given speed (Finn et al., 2017, sec. 5.3). Task: the speed in m/s, `[]`, uniform from 0 to
    `max_speed`.

    Reward: 1 minus the distance of the velocity to it, and the rest as in `AntDirection`.
    """

    body = AntBody()
    horizon: int = 200
    max_speed: float = 3.0

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        distance = np.abs(_velocity(before, after, self.dt)[:, 0] - tasks)
        return 1.0 - distance + 0.05 - _costs(after, controls, control=5e-3)


@dataclass(frozen=True)
class AntHeading(AbstractHeadings):
    """Run in a given direction of the plane (Rothfuss et al., 2019: ProMP). Task: a unit vector, `[2]`,
    uniform on the circle.

    Reward: velocity in that direction in m/s, plus 1, less the costs of `Ant`.
    """

    body = AntBody()
    horizon: int = 200

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        velocity = np.sum(tasks * _velocity(before, after, self.dt), axis=1)
        return velocity + 1.0 - _costs(after, controls, control=0.5)


@dataclass(frozen=True)
class AntGoal(AbstractRewards):
    """Go to a place that is not observed (Finn et al., 2017, in the paper's code). Task: its x and y in
    metres, `[2]`, uniform in ±`goal_range`.

    Reward: 4 minus the distances to it along x and along y in metres, and the rest as in `AntDirection`. The
    ant sees where it is, as in the paper's code: Gymnasium's observation with x and y before it.
    """

    body = AntBody(knows_place=True)
    horizon: int = 200
    goal_range: float = 3.0

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")
        check(self.goal_range > 0, "goal_range", self.goal_range, "above 0")

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 2"]:
        return jax.random.uniform(key, (n, 2), minval=-self.goal_range, maxval=self.goal_range)

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del before
        distance = np.abs(_place(after) - tasks).sum(axis=1)
        return 4.0 - distance + 0.05 - _costs(after, controls, control=5e-3)


def _place(now: Snapshot) -> Float[np.ndarray, "rows 2"]:
    """The torso's x and y in metres."""
    return now.measured["xpos"][:, _TORSO, :2]


def _velocity(before: Snapshot, after: Snapshot, dt: float) -> Float[np.ndarray, "rows 2"]:
    return (_place(after) - _place(before)) / dt


def _costs(
    after: Snapshot, controls: Float[np.ndarray, "rows nu"], control: float
) -> Float[np.ndarray, " rows"]:
    forces = np.clip(after.measured["cfrc_ext"], -1, 1).reshape(len(controls), -1)
    return control * squared(controls) + 5e-4 * squared(forces)
