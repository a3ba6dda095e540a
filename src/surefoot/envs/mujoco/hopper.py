"""Hopper: hop forward, on one leg of known or of random dynamics."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, uniform_start
from surefoot.envs.mujoco.dynamics import AbstractParameters, Multipliers
from surefoot.envs.mujoco.family import AbstractPlain
from surefoot.envs.mujoco.snapshot import Snapshot, walking


@dataclass(frozen=True)
class HopperBody(AbstractBody):
    """A planar leg of four links. It has fallen when its torso is at 0.7 m or lower or leans by 0.2 rad or
    more."""

    xml = "hopper.xml"
    frame_skip = 4

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return uniform_start(model, generator, noise=5e-3)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        return np.concatenate([now.qpos[:, 1:], np.clip(now.qvel, -10, 10)], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        z, angle = now.qpos[:, 1], now.qpos[:, 2]
        rest = np.concatenate([now.qpos[:, 2:], now.qvel], axis=1)
        return ~((z > 0.7) & (np.abs(angle) < 0.2) & np.all(np.abs(rest) < 100, axis=1))


@dataclass(frozen=True)
class Hopper(AbstractPlain):
    """Gymnasium's Hopper-v5: hop forward. One task, without content: `[0]`.

    Reward: forward velocity in m/s, and 1 unless it has fallen, less 0.001 times the squared control.
    """

    body = HopperBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        return walking(before, after, self.dt, self.body.terminated(after), controls)


@dataclass(frozen=True)
class HopperParameters(AbstractParameters):
    """Hop forward with random dynamics (ProMP's rand_param_envs). Task: see `AbstractParameters`.

    Reward: as in `Hopper`. The original pays the 1 for the step of the fall too.
    """

    body = HopperBody()
    horizon: int = 200
    spread: float = 3.0

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: Multipliers
    ) -> Float[np.ndarray, " rows"]:
        del tasks
        return walking(before, after, self.dt, self.body.terminated(after), controls)
