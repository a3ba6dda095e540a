"""InvertedDoublePendulum: a cart keeps a pole upright on a pole."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, normal_start
from surefoot.envs.mujoco.family import AbstractPlain
from surefoot.envs.mujoco.snapshot import Snapshot


@dataclass(frozen=True)
class InvertedDoublePendulumBody(AbstractBody):
    """A cart on a rail and two poles, one on the other. They have fallen when their tip is at 1 m or
    lower."""

    xml = "inverted_double_pendulum.xml"
    frame_skip = 5
    measured = ("site_xpos", "qfrc_constraint")

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return normal_start(model, generator, noise=0.1)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        angles = now.qpos[:, 1:]
        force = np.clip(now.measured["qfrc_constraint"][:, :1], -10, 10)
        parts = [now.qpos[:, :1], np.sin(angles), np.cos(angles), np.clip(now.qvel, -10, 10), force]
        return np.concatenate(parts, axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        return _tip(now)[:, 2] <= 1


@dataclass(frozen=True)
class InvertedDoublePendulum(AbstractPlain):
    """Gymnasium's InvertedDoublePendulum-v5: keep the poles upright. One task, without content: `[0]`.

    Reward: 10 unless they have fallen, less 0.01 x² + (z − 2)² of the tip's position and 0.001 ω₁² + 0.005
    ω₂² of the angular velocities.
    """

    body = InvertedDoublePendulumBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del before, controls, tasks
        x, _, z = _tip(after).T
        _, lower, upper = after.qvel.T
        alive = 10.0 * ~self.body.terminated(after)
        return alive - 0.01 * x**2 - (z - 2) ** 2 - 1e-3 * lower**2 - 5e-3 * upper**2


def _tip(now: Snapshot) -> Float[np.ndarray, "rows 3"]:
    """Where the upper pole ends, in metres."""
    return now.measured["site_xpos"][:, 0]
