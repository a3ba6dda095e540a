"""The bodies of Gymnasium's MuJoCo environments, version 5."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from surefoot.envs.mujoco.body import (
    AbstractBody,
    AbstractRunner,
    Controls,
    Ends,
    Observations,
    Scalars,
    Snapshot,
    Start,
    squared,
)


class HalfCheetahBody(AbstractRunner):
    """A planar cheetah of seven links. It never terminates."""

    xml = "half_cheetah.xml"
    frame_skip = 5
    reset_noise = 0.1
    normal_velocities = True

    def observe(self, now: Snapshot) -> Observations:
        return np.concatenate([now.qpos[:, 1:], now.qvel], axis=1)


class HopperBody(AbstractRunner):
    """A planar leg of four links. It has fallen when its torso is at 0.7 m or lower or leans by 0.2 rad or
    more."""

    xml = "hopper.xml"
    frame_skip = 4
    reset_noise = 5e-3

    def observe(self, now: Snapshot) -> Observations:
        return np.concatenate([now.qpos[:, 1:], np.clip(now.qvel, -10, 10)], axis=1)

    def terminated(self, now: Snapshot) -> Ends:
        z, angle = now.qpos[:, 1], now.qpos[:, 2]
        rest = np.concatenate([now.qpos[:, 2:], now.qvel], axis=1)
        return ~((z > 0.7) & (np.abs(angle) < 0.2) & np.all(np.abs(rest) < 100, axis=1))


class Walker2dBody(AbstractRunner):
    """Two planar legs, seven links. It has fallen when its torso is not between 0.8 and 2 m or leans by 1 rad
    or more."""

    xml = "walker2d_v5.xml"
    frame_skip = 4
    reset_noise = 5e-3

    def observe(self, now: Snapshot) -> Observations:
        return np.concatenate([now.qpos[:, 1:], np.clip(now.qvel, -10, 10)], axis=1)

    def terminated(self, now: Snapshot) -> Ends:
        z, angle = now.qpos[:, 1], now.qpos[:, 2]
        return ~((z > 0.8) & (z < 2) & (np.abs(angle) < 1))


class SwimmerBody(AbstractRunner):
    """Three links in a viscous fluid. It never terminates."""

    xml = "swimmer.xml"
    frame_skip = 4
    reset_noise = 0.1

    def observe(self, now: Snapshot) -> Observations:
        return np.concatenate([now.qpos[:, 2:], now.qvel], axis=1)

    def position(self, now: Snapshot) -> Float[np.ndarray, "rows 2"]:
        return now.qpos[:, :2]


@dataclass(frozen=True)
class AntBody(AbstractRunner):
    """A torso on four legs, thirteen links. It has fallen when its torso is not between 0.2 and 1 m.

    It observes its position without x and y, its velocity, and the external force on every body, clipped to
    ±1. Velocities are the torso's, mean over a step of 50 ms, as in Gymnasium; the MAML paper's code acts
    every 20 ms and measures those of the whole body's centre of mass at the end of the step. Contact forces
    are as MuJoCo computes them now: between its versions 2.0 and Gymnasium's environments of version 5, most
    libraries saw zeros in their place.
    """

    xml = "ant.xml"
    frame_skip = 5
    reset_noise = 0.1
    normal_velocities = True
    measured = ("xpos", "cfrc_ext")
    observes_position: bool = False
    """Whether it observes x and y too."""

    def observe(self, now: Snapshot) -> Observations:
        position = now.qpos if self.observes_position else now.qpos[:, 2:]
        forces = np.clip(now.measured["cfrc_ext"][:, 1:], -1, 1).reshape(len(position), -1)
        return np.concatenate([position, now.qvel, forces], axis=1)

    def position(self, now: Snapshot) -> Float[np.ndarray, "rows 2"]:
        torso = 1
        return now.measured["xpos"][:, torso, :2]

    def terminated(self, now: Snapshot) -> Ends:
        finite = np.isfinite(np.concatenate([now.qpos, now.qvel], axis=1)).all(axis=1)
        z = now.qpos[:, 2]
        return ~(finite & (z >= 0.2) & (z <= 1))

    def costs(self, after: Snapshot, controls: Controls) -> Scalars:
        forces = np.clip(after.measured["cfrc_ext"], -1, 1).reshape(len(controls), -1)
        return self.control_cost * squared(controls) + 5e-4 * squared(forces)


class HumanoidBody(AbstractRunner):
    """A body of thirteen links. It has fallen when its torso is not between 1 and 2 m.

    It observes its position without x and y, its velocity, the inertia, the velocity and the external force
    of every body, and the torques of its motors. Its velocity is that of its centre of mass.
    """

    xml = "humanoid.xml"
    frame_skip = 5
    reset_noise = 0.01
    measured = ("xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    velocity_weight = 1.25

    def observe(self, now: Snapshot) -> Observations:
        rows, seen, root_freedoms = len(now.qpos), now.measured, 6
        inertias, velocities, forces = (
            seen[name][:, 1:].reshape(rows, -1) for name in ("cinert", "cvel", "cfrc_ext")
        )
        torques = seen["qfrc_actuator"][:, root_freedoms:]
        return np.concatenate([now.qpos[:, 2:], now.qvel, inertias, velocities, torques, forces], axis=1)

    def position(self, now: Snapshot) -> Float[np.ndarray, "rows 2"]:
        return self._centre(now.measured["xipos"])

    def velocity(self, before: Snapshot, after: Snapshot) -> Float[np.ndarray, "rows 2"]:
        return self._centre(after.measured["xipos"] - before.measured["xipos"]) / self.dt

    def _centre(self, bodies: Float[np.ndarray, "rows bodies 3"]) -> Float[np.ndarray, "rows 2"]:
        masses = self.model.body_mass
        return np.einsum("b,rbj->rj", masses, bodies[:, :, :2]) / masses.sum()

    def terminated(self, now: Snapshot) -> Ends:
        z = now.qpos[:, 2]
        return ~((z > 1) & (z < 2))

    def costs(self, after: Snapshot, controls: Controls) -> Scalars:
        impact = 5e-7 * squared(after.measured["cfrc_ext"].reshape(len(controls), -1))
        return self.control_cost * squared(controls) + np.minimum(impact, 10.0)


class ReacherBody(AbstractBody):
    """A planar arm of two links, and a target within its reach that it observes and that is drawn anew in
    every episode."""

    xml = "reacher.xml"
    frame_skip = 2
    reset_noise = 0.1
    measured = ("xpos",)
    still_camera: ClassVar = {"elevation": -90.0, "distance": 0.65, "lookat": (0, 0, 0.0)}

    def initial(self, model: Any, generator: np.random.Generator) -> Start:
        qpos = generator.uniform(-self.reset_noise, self.reset_noise, model.nq) + model.qpos0
        target = generator.uniform(-0.2, 0.2, 2)
        while np.linalg.norm(target) >= 0.2:
            target = generator.uniform(-0.2, 0.2, 2)
        qvel = generator.uniform(-5e-3, 5e-3, model.nv)
        qpos[-2:], qvel[-2:] = target, 0
        return qpos, qvel

    def observe(self, now: Snapshot) -> Observations:
        angles, target = now.qpos[:, :2], now.qpos[:, 2:]
        parts = [np.cos(angles), np.sin(angles), target, now.qvel[:, :2], self._offset(now)[:, :2]]
        return np.concatenate(parts, axis=1)

    def reward(self, before: Snapshot, after: Snapshot, controls: Controls) -> Scalars:
        del before
        return -np.linalg.norm(self._offset(after), axis=1) - squared(controls)

    def _offset(self, now: Snapshot) -> Float[np.ndarray, "rows 3"]:
        """From the target to the fingertip, in m."""
        fingertip, target = 3, 4
        return now.measured["xpos"][:, fingertip] - now.measured["xpos"][:, target]


class InvertedPendulumBody(AbstractBody):
    """A cart on a rail and a pole on a hinge. It has fallen when it leans by more than 0.2 rad."""

    xml = "inverted_pendulum.xml"
    frame_skip = 2
    reset_noise = 0.01
    still_camera: ClassVar = {"elevation": -10.0, "distance": 2.0, "lookat": (0, 0, 0.2)}

    def observe(self, now: Snapshot) -> Observations:
        return np.concatenate([now.qpos, now.qvel], axis=1)

    def terminated(self, now: Snapshot) -> Ends:
        finite = np.isfinite(self.observe(now)).all(axis=1)
        return ~finite | (np.abs(now.qpos[:, 1]) > 0.2)

    def reward(self, before: Snapshot, after: Snapshot, controls: Controls) -> Scalars:
        del before, controls
        return 1.0 - self.terminated(after)


class InvertedDoublePendulumBody(AbstractBody):
    """A cart on a rail and two poles, one on the other. They have fallen when their tip is at 1 m or
    lower."""

    xml = "inverted_double_pendulum.xml"
    frame_skip = 5
    reset_noise = 0.1
    normal_velocities = True
    measured = ("site_xpos", "qfrc_constraint")
    still_camera: ClassVar = {"elevation": -10.0, "distance": 3.6, "lookat": (0, 0, 0.5)}

    def observe(self, now: Snapshot) -> Observations:
        angles = now.qpos[:, 1:]
        force = np.clip(now.measured["qfrc_constraint"][:, :1], -10, 10)
        parts = [now.qpos[:, :1], np.sin(angles), np.cos(angles), np.clip(now.qvel, -10, 10), force]
        return np.concatenate(parts, axis=1)

    def terminated(self, now: Snapshot) -> Ends:
        return self._tip(now)[:, 2] <= 1

    def reward(self, before: Snapshot, after: Snapshot, controls: Controls) -> Scalars:
        del before, controls
        x, _, z = self._tip(after).T
        _, lower, upper = after.qvel.T
        alive = 10.0 * ~self.terminated(after)
        return alive - 0.01 * x**2 - (z - 2) ** 2 - 1e-3 * lower**2 - 5e-3 * upper**2

    def _tip(self, now: Snapshot) -> Float[np.ndarray, "rows 3"]:
        """The end of the upper pole, in m."""
        return now.measured["site_xpos"][:, 0]
