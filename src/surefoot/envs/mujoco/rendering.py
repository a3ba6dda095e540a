"""Off-screen drawing of MuJoCo's models with a backend that works on this machine: EGL, or OSMesa.

`mujoco.Renderer` does not serve here: its backend is fixed by MUJOCO_GL when MuJoCo is first imported, which
training does before anything is drawn, and without MUJOCO_GL that is a window, which needs a display.
"""

import copy
import importlib
import importlib.util
import os
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

from surefoot.envs.mujoco.binding import mujoco
from surefoot.envs.mujoco.view import View
from surefoot.options import UserError

_WINDOW = ("glfw", "glx", "wgl", "enable", "enabled", "on", "true", "1")
_BACKENDS = {"egl": "egl", "osmesa": "osmesa", "cgl": "cgl", **dict.fromkeys(_WINDOW, "glfw")}
"""The backend for each value of MUJOCO_GL that draws."""
_DEFAULTS = {"darwin": ("cgl", "glfw"), "win32": ("glfw",)}
_SHADOW_SIZE = 1024
"""Side of the shadow map in pixels. MuJoCo's 4096 takes most of the time without a GPU and looks the same."""
_SPARE_GEOMS = 100
"""Geoms of a scene besides the model's: marks and lights."""
_TRIAL_SECONDS = 60.0
"""Time limit of a trial: a driver that hangs does not work."""
# MuJoCo and PyOpenGL each fix a backend when they are first imported, and a wrong one cannot be changed. So a
# backend is tried in its own process.
_TRIAL = """
import importlib, sys
import mujoco
context = importlib.import_module(f"mujoco.{sys.argv[1]}").GLContext(8, 8)
context.make_current()
model = mujoco.MjModel.from_xml_string("<mujoco/>")
mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value).free()
context.free()
"""
_MARK = np.array([0.82, 0.29, 0.36, 1.0], np.float32)
_GOAL_SIZE = np.array([0.3, 0.01, 0.0])
_ARROW_LENGTH, _ARROW_WIDTH, _ARROW_HEIGHT = 0.7, 0.04, 0.8


def find_backend() -> str:
    """The backend that MuJoCo can draw with here: `egl`, `osmesa`, `cgl` or `glfw`; the one in MUJOCO_GL, or
    else the first that works.

    Raises `UserError` if none does. Takes about a second the first time. Does not import MuJoCo and can be
    called before it is imported: where MUJOCO_GL names a missing backend, importing MuJoCo fails.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise UserError("Pictures need MuJoCo, which is not installed: pip install 'surefoot[mujoco]'.")
    wanted = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wanted and wanted not in _BACKENDS:
        raise UserError(f"MUJOCO_GL is {wanted!r}, which cannot draw. Set it to egl or osmesa, or unset it.")
    candidates = (_BACKENDS[wanted],) if wanted else _DEFAULTS.get(sys.platform, ("egl", "osmesa"))
    errors = []
    for backend in candidates:
        error = _try(backend)
        if not error:
            return backend
        errors.append(f"{backend}: {error}")
    raise UserError(
        f"MuJoCo cannot draw on this machine ({'; '.join(errors)}). Install EGL with a software renderer, "
        "which needs neither a GPU nor a screen: apt install libegl1 libgl1 libgl1-mesa-dri; or OSMesa: apt "
        "install libosmesa6. MUJOCO_GL=egl or osmesa chooses between them."
    )


@cache
def _try(backend: str) -> str:
    """The error of a backend in one line; empty if it works."""
    environment = {**os.environ, "MUJOCO_GL": "disable"}  # so that importing MuJoCo fixes no backend
    command = [sys.executable, "-c", _TRIAL, backend]
    try:
        trial = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return "no answer"
    if trial.returncode == 0:
        return ""
    errors = [line for line in trial.stderr.splitlines() if line[:1].isalpha() and "Error" in line]
    return errors[0] if errors else f"exit code {trial.returncode}"


class Screen:
    """Draws one model, from one thread. Each model has its own OpenGL context: MuJoCo leaves lights in it."""

    def __init__(self, model: Any, width: int, height: int) -> None:
        """Width and height in pixels. Raises `UserError` if nothing can be drawn here."""
        library, backend = mujoco(), find_backend()
        try:
            self._window = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        except (ImportError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{backend} works on this machine, but not in this process: {error}. Another backend was "
                f"chosen before; start Python with MUJOCO_GL={backend}."
            ) from error
        self._window.make_current()
        plain = copy.copy(model)
        plain.vis.quality.shadowsize = min(plain.vis.quality.shadowsize, _SHADOW_SIZE)
        self._context = library.MjrContext(plain, library.mjtFontScale.mjFONTSCALE_100.value)
        library.mjr_resizeOffscreen(width, height, self._context)
        library.mjr_setBuffer(library.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._model, self._scene = model, library.MjvScene(model, maxgeom=model.ngeom + _SPARE_GEOMS)
        self._frame = library.MjrRect(0, 0, width, height)

    def draw(self, qpos: np.ndarray, view: View) -> UInt8[np.ndarray, "height width 3"]:
        """The model in the position `qpos`."""
        library = mujoco()
        data = library.MjData(self._model)
        data.qpos[:] = qpos
        library.mj_fwdPosition(self._model, data)
        everything = library.mjtCatBit.mjCAT_ALL.value
        library.mjv_updateScene(
            self._model, data, library.MjvOption(), None, view.camera, everything, self._scene
        )
        if view.goal is not None:
            self._add(library.mjtGeom.mjGEOM_CYLINDER, _GOAL_SIZE, np.array([*view.goal, _GOAL_SIZE[1]]))
        if view.arrow is not None:
            start = data.subtree_com[0] + [0, 0, _ARROW_HEIGHT]
            end = start + _ARROW_LENGTH * np.array([*view.arrow, 0.0])
            arrow = self._add(library.mjtGeom.mjGEOM_ARROW, np.zeros(3), start)
            library.mjv_connector(arrow, library.mjtGeom.mjGEOM_ARROW, _ARROW_WIDTH, start, end)
        picture = np.empty((self._frame.height, self._frame.width, 3), np.uint8)
        self._window.make_current()
        library.mjr_render(self._frame, self._scene, self._context)
        library.mjr_readPixels(picture, None, self._frame, self._context)
        return np.flipud(picture)

    def _add(self, kind: Any, size: np.ndarray, place: np.ndarray) -> Any:
        geom = self._scene.geoms[self._scene.ngeom]
        mujoco().mjv_initGeom(geom, kind, size, place, np.eye(3).ravel(), _MARK)
        self._scene.ngeom += 1
        return geom

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._window.make_current()
        self._context.free()
        self._window.free()
