"""The contract of a body: its model, its observation, its termination and the reward of its plain task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from surefoot.envs.mujoco.binding import load_model

Scalars = Float[np.ndarray, " rows"]
Controls = Float[np.ndarray, "rows nu"]
Observations = Float[np.ndarray, "rows obs"]
Ends = Bool[np.ndarray, " rows"]
Start = tuple[Float[np.ndarray, " nq"], Float[np.ndarray, " nv"]]
"""Positions and velocities at the start of one episode."""


class Snapshot(NamedTuple):
    """The state of some rows at one moment, in MuJoCo's coordinates and units (m, s, N)."""

    qpos: Float[np.ndarray, "rows nq"]
    qvel: Float[np.ndarray, "rows nv"]
    measured: Mapping[str, Float[np.ndarray, "rows ..."]]
    """The fields of MuJoCo's data named in `AbstractBody.measured`, as MuJoCo left them."""


@dataclass(frozen=True)
class AbstractBody(ABC):
    """One of Gymnasium's MuJoCo bodies, version 5. An immutable dataclass; its methods take many rows."""

    xml: ClassVar[str]
    """File name of the model, among Gymnasium's."""
    frame_skip: ClassVar[int]
    """Number of physics steps per environment step."""
    reset_noise: ClassVar[float]
    """Half-width of the uniform noise on the start's positions, and on its velocities, unless those are
    normal."""
    normal_velocities: ClassVar[bool] = False
    """Whether the start's velocities are normal, with standard deviation `reset_noise`."""
    measured: ClassVar[tuple[str, ...]] = ()
    """Fields of MuJoCo's data that it reads besides positions and velocities. After a step they hold the
    integrator's last evaluation, slightly older than the positions, as in Gymnasium."""
    still_camera: ClassVar[Mapping[str, Any]] = {}
    """Fields of MuJoCo's `MjvCamera` in degrees and m, for a body whose model has no camera of its own."""

    @property
    def model(self) -> Any:
        """The model, unchanged from Gymnasium. It is shared: copy it before changing it."""
        return load_model(self.xml)

    @property
    def dt(self) -> float:
        """Duration of one environment step in seconds."""
        return self.model.opt.timestep * self.frame_skip

    def initial(self, model: Any, generator: np.random.Generator) -> Start:
        """The start of an episode: the model's rest position plus noise, with the same numbers as Gymnasium
        draws from the same generator."""
        noise = self.reset_noise
        qpos = model.qpos0 + generator.uniform(-noise, noise, model.nq)
        if self.normal_velocities:
            return qpos, noise * generator.standard_normal(model.nv)
        return qpos, generator.uniform(-noise, noise, model.nv)

    @abstractmethod
    def observe(self, now: Snapshot) -> Observations:
        """The policy's observations."""

    def terminated(self, now: Snapshot) -> Ends:
        """Whether each episode has reached a terminal state; by default none ever does."""
        return np.zeros(len(now.qpos), bool)

    @abstractmethod
    def reward(self, before: Snapshot, after: Snapshot, controls: Controls) -> Scalars:
        """Gymnasium's reward for one step."""


@dataclass(frozen=True)
class AbstractRunner(AbstractBody):
    """A body that moves forward, for a weighted velocity and a bonus, less costs."""

    control_cost: float
    """Cost per squared control."""
    alive_bonus: float = 0.0
    """Reward per step."""
    velocity_weight: ClassVar[float] = 1.0
    """Reward per m/s."""

    def position(self, now: Snapshot) -> Float[np.ndarray, "rows axes"]:
        """The position in m: x, which is by default the first coordinate, and y of bodies that have one."""
        return now.qpos[:, :1]

    def velocity(self, before: Snapshot, after: Snapshot) -> Float[np.ndarray, "rows axes"]:
        """The mean velocity over the step in m/s."""
        return (self.position(after) - self.position(before)) / self.dt

    def costs(self, after: Snapshot, controls: Controls) -> Scalars:
        """The costs of controls and contacts; by default of controls only."""
        del after
        return self.control_cost * squared(controls)

    def reward(self, before: Snapshot, after: Snapshot, controls: Controls) -> Scalars:
        bonus = self.alive_bonus * ~self.terminated(after)
        forward = self.velocity_weight * self.velocity(before, after)[:, 0]
        return forward + bonus - self.costs(after, controls)


def squared(x: Float[np.ndarray, "rows n"]) -> Scalars:
    """The squared length of each row."""
    return np.sum(np.square(x), axis=1)
