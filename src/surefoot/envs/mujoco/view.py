"""The view of a task's video: the camera, and the marks drawn besides the body."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from surefoot.envs.mujoco.binding import mujoco


class View(NamedTuple):
    """A camera and marks."""

    camera: Any
    """MuJoCo's `MjvCamera`."""
    goal: Float[np.ndarray, " 2"] | None = None
    """A place on the floor, in m."""
    arrow: Float[np.ndarray, " 2"] | None = None
    """A direction in the plane, drawn above the body."""


def camera(model: Any, **settings: Any) -> Any:
    """MuJoCo's default camera of a model, looking along y, with other settings: fields of `MjvCamera`."""
    made = mujoco().MjvCamera()
    mujoco().mjv_defaultFreeCamera(model, made)
    for name, value in {"azimuth": 90, **settings}.items():
        setattr(made, name, value)
    return made


def tracking_camera(model: Any, **settings: Any) -> Any:
    """The model's own camera that follows the body; without one, `camera` with these settings."""
    index = mujoco().mj_name2id(model, mujoco().mjtObj.mjOBJ_CAMERA.value, "track")
    if index < 0:
        return camera(model, **settings)
    return camera(model, type=mujoco().mjtCamera.mjCAMERA_FIXED, fixedcamid=index)
