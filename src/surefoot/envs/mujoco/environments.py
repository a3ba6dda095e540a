"""The MuJoCo environments: each is a body with a kind of task, their constants and their horizon."""

from dataclasses import dataclass

from surefoot.envs.mujoco import bodies
from surefoot.envs.mujoco.dynamics import AbstractParams
from surefoot.envs.mujoco.family import (
    AbstractDirections,
    AbstractGoals,
    AbstractHeadings,
    AbstractPlain,
    AbstractVelocities,
    Horizon,
    PositiveFloat,
)


class HalfCheetah(AbstractPlain):
    """Gymnasium's HalfCheetah-v5: run forward.

    Reward: forward velocity in m/s, less 0.1 times the squared control.
    """

    body = bodies.HalfCheetahBody(control_cost=0.1)


@dataclass(frozen=True)
class HalfCheetahDir(AbstractDirections):
    """Run forward or backward (Finn et al., 2017, sec. 5.3). Task: the direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, less 0.05 times the squared control. The paper's code acts
    every 10 ms and measures the velocity of the whole body's centre of mass at the end of the step; this acts
    every 50 ms and takes the mean velocity of the torso's root over the step, as Gymnasium and ProMP do.
    """

    body = bodies.HalfCheetahBody(control_cost=0.05)
    horizon: Horizon = 100


class HalfCheetahVel(AbstractVelocities):
    """Run at a given speed (Finn et al., 2017, sec. 5.3). Task: the speed in m/s, `[]`, uniform from 0 to
    `max_speed`.

    Reward: minus the distance of the velocity to it, less 0.05 times the squared control. The velocity is
    that of `HalfCheetahDir`.
    """

    body = bodies.HalfCheetahBody(control_cost=0.05)


class Hopper(AbstractPlain):
    """Gymnasium's Hopper-v5: hop forward.

    Reward: forward velocity in m/s, and 1 unless it has fallen, less 0.001 times the squared control.
    """

    body = bodies.HopperBody(control_cost=1e-3, alive_bonus=1.0)


class HopperParams(AbstractParams):
    """Hop forward with random dynamics (ProMP's rand_param_envs). Task: see `AbstractParams`.

    Reward: as in `Hopper`. The original pays the 1 for the step of the fall too.
    """

    body = bodies.HopperBody(control_cost=1e-3, alive_bonus=1.0)


class Walker2d(AbstractPlain):
    """Gymnasium's Walker2d-v5: walk forward.

    Reward: forward velocity in m/s, and 1 unless it has fallen, less 0.001 times the squared control.
    """

    body = bodies.Walker2dBody(control_cost=1e-3, alive_bonus=1.0)


class Walker2dDir(AbstractDirections):
    """Walk forward or backward (Rothfuss et al., 2019: ProMP). Task: the direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, plus 1, less 0.001 times the squared control. ProMP's code acts
    every 16 ms; this acts every 8 ms, as Gymnasium does.
    """

    body = bodies.Walker2dBody(control_cost=1e-3, alive_bonus=1.0)


class Walker2dVel(AbstractVelocities):
    """Walk at a given speed (Rothfuss et al., 2019: ProMP). Task: the speed in m/s, `[]`, uniform from 0 to
    `max_speed`.

    Reward: minus the distance of the velocity to it, plus 1.5 times `max_speed`, less 0.001 times the squared
    control. ProMP's code has speeds up to 10 m/s, which no policy reaches, and a bonus of 15; the proportion
    is the same, so that it never pays to fall. It acts every 16 ms, this every 8 ms.
    """

    body = bodies.Walker2dBody(control_cost=1e-3)
    at_speed_per_max = 1.5


class Walker2dParams(AbstractParams):
    """Walk forward with random dynamics (ProMP's rand_param_envs). Task: see `AbstractParams`.

    Reward: as in `Walker2d`. The original pays the 1 for the step of the fall too.
    """

    body = bodies.Walker2dBody(control_cost=1e-3, alive_bonus=1.0)


class Swimmer(AbstractPlain):
    """Gymnasium's Swimmer-v5: swim forward.

    Reward: forward velocity in m/s, less 0.0001 times the squared control.
    """

    body = bodies.SwimmerBody(control_cost=1e-4)


class SwimmerDir(AbstractDirections):
    """Swim forward or backward: `Swimmer`, after the directions of Finn et al. (2017, sec. 5.3). Task: the
    direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, less 0.0001 times the squared control.
    """

    body = bodies.SwimmerBody(control_cost=1e-4)


class Ant(AbstractPlain):
    """Gymnasium's Ant-v5: run forward.

    Reward: forward velocity in m/s, and 1 unless it has fallen, less 0.5 times the squared control and 0.0005
    times the squared contact forces, each clipped to ±1.
    """

    body = bodies.AntBody(control_cost=0.5, alive_bonus=1.0)


class AntDir(AbstractDirections):
    """Run forward or backward (Finn et al., 2017, sec. 5.3). Task: the direction, `[]`, −1 or 1.

    Reward: velocity in that direction in m/s, plus 0.05, less 0.005 times the squared control and 0.0005
    times the squared contact forces, each clipped to ±1.
    """

    body = bodies.AntBody(control_cost=5e-3, alive_bonus=0.05)


@dataclass(frozen=True)
class AntVel(AbstractVelocities):
    """Run at a given speed (Finn et al., 2017, sec. 5.3). Task: the speed in m/s, `[]`, uniform from 0 to
    `max_speed`.

    Reward: 1 minus the distance of the velocity to it, and the rest as in `AntDir`.
    """

    body = bodies.AntBody(control_cost=5e-3, alive_bonus=0.05)
    at_speed = 1.0
    max_speed: PositiveFloat = 3.0


class AntHeading(AbstractHeadings):
    """Run in a given direction of the plane (Rothfuss et al., 2019: ProMP). Task: a unit vector, `[2]`,
    uniform on the circle.

    Reward: velocity in that direction in m/s, plus 1, less the costs of `Ant`.
    """

    body = bodies.AntBody(control_cost=0.5, alive_bonus=1.0)


class AntGoal(AbstractGoals):
    """Go to a place that is not observed (Finn et al., 2017, in the paper's code). Task: its x and y in
    metres, `[2]`, uniform in ±`goal_range`.

    Reward: 4 minus the distances to it along x and along y in metres, and the rest as in `AntDir`. The ant
    observes its own place, as in the paper's code: Gymnasium's observation with x and y before it.
    """

    body = bodies.AntBody(control_cost=5e-3, alive_bonus=0.05, observes_position=True)
    at_goal = 4.0


class Humanoid(AbstractPlain):
    """Gymnasium's Humanoid-v5: walk forward.

    Reward: 1.25 times the forward velocity of the centre of mass in m/s, and 5 unless it has fallen, less 0.1
    times the squared control and 5e-7 times the squared forces from outside, at most 10. Action: within ±0.4.
    """

    body = bodies.HumanoidBody(control_cost=0.1, alive_bonus=5.0)


class HumanoidDir(AbstractHeadings):
    """Walk in a given direction of the plane (Rothfuss et al., 2019: ProMP). Task: a unit vector, `[2]`,
    uniform on the circle.

    Reward: 1.25 times the velocity of the centre of mass in that direction in m/s, plus 5, less the costs of
    `Humanoid`. That is ProMP's: its code divides by the physics' time step and multiplies by 0.25. Its
    observations had the world and the root's absent motors in them, which are zero.
    """

    body = bodies.HumanoidBody(control_cost=0.1, alive_bonus=5.0)


@dataclass(frozen=True)
class Reacher(AbstractPlain):
    """Gymnasium's Reacher-v5: reach the target and stay there.

    Reward: minus the distance of the fingertip to the target in metres, less the squared control.
    """

    body = bodies.ReacherBody()
    horizon: Horizon = 50


class InvertedPendulum(AbstractPlain):
    """Gymnasium's InvertedPendulum-v5: keep the pole upright.

    Action: the force on the cart, in ±3. Reward: 1 unless the pole has fallen.
    """

    body = bodies.InvertedPendulumBody()


class InvertedDoublePendulum(AbstractPlain):
    """Gymnasium's InvertedDoublePendulum-v5: keep the poles upright.

    Reward: 10 unless they have fallen, less 0.01 x² + (z − 2)² of the tip's position and 0.001 ω₁² + 0.005
    ω₂² of the angular velocities.
    """

    body = bodies.InvertedDoublePendulumBody()
