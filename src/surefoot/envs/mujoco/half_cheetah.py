"""HalfCheetah: run forward, in a given direction, or at a given speed."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position
from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.envs.mujoco.snapshot import Snapshot, forward_velocity, squared
from surefoot.options import check
from surefoot.types import Key

_NOISE = 0.1


@dataclass(frozen=True)
class HalfCheetahBody(AbstractBody):
    """A planar cheetah of seven links. It never falls for good."""

    xml = "half_cheetah.xml"
    frame_skip = 5

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        qpos = model.qpos0 + generator.uniform(-_NOISE, _NOISE, model.nq)
        return qpos, _NOISE * generator.standard_normal(model.nv)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        return np.concatenate([now.qpos[:, 1:], now.qvel], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        return np.zeros(len(now.qpos), bool)


@dataclass(frozen=True)
class HalfCheetah(AbstractMujocoFamily):
    """Gymnasium's HalfCheetah-v5: run forward. One task, without content: `[0]`.

    Reward: forward velocity in m/s, less 0.1 times the squared control.
    """

    body = HalfCheetahBody()
    horizon: int = 1000

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")

    @property
    def time_limit_ends_return(self) -> bool:
        return False

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        return forward_velocity(before, after, self.dt) - 0.1 * squared(controls)


@dataclass(frozen=True)
class HalfCheetahDirection(AbstractMujocoFamily):
    """Run forward or backward (Finn et al., 2017, sec. 5.3). Task: the direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, less 0.05 times the squared control. The paper's simulator
    measured the velocity of the torso's centre of mass at the end of the step; this is the mean velocity of
    the torso's root over the step, as in Gymnasium.
    """

    body = HalfCheetahBody()
    horizon: int = 100

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> Float[Array, " {n}"]:
        return jax.random.rademacher(key, (n,), float)

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        return tasks * forward_velocity(before, after, self.dt) - 0.05 * squared(controls)


@dataclass(frozen=True)
class HalfCheetahVelocity(AbstractMujocoFamily):
    """Run at a given speed (Finn et al., 2017, sec. 5.3). Task: the speed in m/s, `[]`, uniform from 0 to
    `max_speed`.

    Reward: minus the distance of the velocity to it, less 0.05 times the squared control. Of velocities the
    same holds as in `HalfCheetahDirection`.
    """

    body = HalfCheetahBody()
    horizon: int = 200
    max_speed: float = 2.0

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")
        check(self.max_speed > 0, "max_speed", self.max_speed, "above 0")

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> Float[Array, " {n}"]:
        return jax.random.uniform(key, (n,), maxval=self.max_speed)

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        distance = np.abs(forward_velocity(before, after, self.dt) - tasks)
        return -distance - 0.05 * squared(controls)
