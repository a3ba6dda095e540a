"""InvertedPendulum: a cart keeps a pole upright."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.body import AbstractBody, Position, uniform_start
from surefoot.envs.mujoco.family import AbstractPlain
from surefoot.envs.mujoco.snapshot import Snapshot


@dataclass(frozen=True)
class InvertedPendulumBody(AbstractBody):
    """A cart on a rail and a pole on a hinge. It has fallen when it leans by more than 0.2 rad."""

    xml = "inverted_pendulum.xml"
    frame_skip = 2

    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        return uniform_start(model, generator, noise=0.01)

    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        return np.concatenate([now.qpos, now.qvel], axis=1)

    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        finite = np.isfinite(self.observe(now)).all(axis=1)
        return ~finite | (np.abs(now.qpos[:, 1]) > 0.2)


@dataclass(frozen=True)
class InvertedPendulum(AbstractPlain):
    """Gymnasium's InvertedPendulum-v5: keep the pole upright. One task, without content: `[0]`.

    Action: the force on the cart, in ±3. Reward: 1 unless the pole has fallen.
    """

    body = InvertedPendulumBody()
    horizon: int = 1000

    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: np.ndarray
    ) -> Float[np.ndarray, " rows"]:
        del before, controls, tasks
        return 1.0 - self.body.terminated(after)
