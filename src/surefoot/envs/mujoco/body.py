"""The contract of a body: what moves, what is seen of it, and when it has fallen."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.snapshot import Snapshot

Position = tuple[Float[np.ndarray, " nq"], Float[np.ndarray, " nv"]]
"""Positions and velocities of one episode."""


class AbstractBody(ABC):
    """One of Gymnasium's MuJoCo bodies, version 5. An immutable dataclass; its methods take many rows."""

    xml: ClassVar[str]
    """The model, among Gymnasium's."""
    frame_skip: ClassVar[int]
    """Steps of the physics for each step of the environment."""
    measured: ClassVar[tuple[str, ...]] = ()
    """What it reads of MuJoCo's data beside positions and velocities, by the names there. After a step that
    is what the integrator's last evaluation left, slightly older than the positions; so is Gymnasium's."""

    @abstractmethod
    def initial(self, model: Any, generator: np.random.Generator) -> Position:
        """Where an episode begins: the same numbers as Gymnasium's from the same generator."""

    @abstractmethod
    def observe(self, now: Snapshot) -> Float[np.ndarray, "rows obs"]:
        """What a policy sees."""

    @abstractmethod
    def terminated(self, now: Snapshot) -> Bool[np.ndarray, " rows"]:
        """Which episodes have come to a terminal state."""


def uniform_start(model: Any, generator: np.random.Generator, noise: float) -> Position:
    """The model's own position at rest, and uniform noise of ±`noise` on every number."""
    qpos = model.qpos0 + generator.uniform(-noise, noise, model.nq)
    return qpos, generator.uniform(-noise, noise, model.nv)


def normal_start(model: Any, generator: np.random.Generator, noise: float) -> Position:
    """The same, but for the velocities: theirs is normal, of standard deviation `noise`."""
    qpos = model.qpos0 + generator.uniform(-noise, noise, model.nq)
    return qpos, noise * generator.standard_normal(model.nv)
