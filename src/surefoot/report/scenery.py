"""What is shown of a task: a few words, a goal or a direction, and from where one sees it best."""

from typing import Any

import jax
import numpy as np

from surefoot.envs.mujoco.ant import AntGoal
from surefoot.envs.mujoco.binding import mujoco
from surefoot.envs.mujoco.dynamics import AbstractParameters
from surefoot.envs.mujoco.family import (
    AbstractDirections,
    AbstractHeadings,
    AbstractMujocoFamily,
    AbstractVelocities,
)
from surefoot.report.rendering import View
from surefoot.types import Task

_ABOVE = -60.0
_ASLANT = -45.0
"""Degrees: how steeply the camera looks down at a goal, and at a body that may run anywhere."""
_NUMBERS_SHOWN = 3
_STILL = {
    "reacher.xml": (-90.0, 0.65, 0.0),
    "inverted_pendulum.xml": (-10.0, 2.0, 0.2),
    "inverted_double_pendulum.xml": (-10.0, 3.6, 0.5),
}
"""For bodies that stay where they are: degrees, metres from the camera, and the height it looks at."""


def describe(env: AbstractMujocoFamily, task: Task, model: Any) -> str:
    """One task in a few words; empty of an environment that has only one."""
    if isinstance(env, AbstractDirections):
        return "run forward →" if task > 0 else "← run backward"
    if isinstance(env, AbstractVelocities):
        return f"run at {float(task):.2f} m/s"
    if isinstance(env, AbstractHeadings):
        return f"run towards {np.degrees(np.arctan2(task[1], task[0])) % 360:.0f}°"
    if isinstance(env, AntGoal):
        return f"go to ({task[0]:.1f}, {task[1]:.1f})".replace("-", "−")
    if isinstance(env, AbstractParameters):
        return f"{model.body_mass.sum() / env.model.body_mass.sum():.2f} × the mass"
    numbers = np.concatenate([np.ravel(x) for x in jax.tree.leaves(task)])
    shown = ", ".join(f"{number:.2f}" for number in numbers[:_NUMBERS_SHOWN])
    return f"task {shown}{' …' * (len(numbers) > _NUMBERS_SHOWN)}" if shown else ""


def view(env: AbstractMujocoFamily, task: Task, model: Any) -> View:
    """How the task is looked at: with the model's own camera that follows it, unless another shows more."""
    camera = mujoco().MjvCamera()
    mujoco().mjv_defaultFreeCamera(model, camera)
    if isinstance(env, AntGoal):
        camera.lookat[:] = 0
        camera.azimuth, camera.elevation, camera.distance = 90, _ABOVE, 3.2 * env.goal_range
        return View(camera, goal=np.asarray(task, float))
    if isinstance(env, AbstractHeadings):
        camera.type = mujoco().mjtCamera.mjCAMERA_TRACKING
        camera.trackbodyid = 1
        camera.azimuth, camera.elevation, camera.distance = 90, _ASLANT, 4.5
        return View(camera, arrow=np.asarray(task, float))
    tracking = mujoco().mj_name2id(model, mujoco().mjtObj.mjOBJ_CAMERA.value, "track")
    if tracking >= 0:
        camera.type, camera.fixedcamid = mujoco().mjtCamera.mjCAMERA_FIXED, tracking
    else:
        camera.azimuth = 90
        if env.body.xml in _STILL:
            camera.elevation, camera.distance, height = _STILL[env.body.xml]
            camera.lookat[:] = 0, 0, height
    arrow = np.array([float(task), 0.0]) if isinstance(env, AbstractDirections) else None
    return View(camera, arrow=arrow)
