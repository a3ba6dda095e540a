"""MuJoCo's models drawn off-screen, with whatever draws on this machine: EGL, or OSMesa without a GPU."""

import copy
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from surefoot.envs.mujoco.binding import mujoco
from surefoot.options import UserError

_WINDOWS = ("glfw", "glx", "wgl", "enable", "enabled", "on", "true", "1")
"""What MUJOCO_GL may say for a hidden window of the desktop."""
_MEANING = {"egl": "egl", "osmesa": "osmesa", "cgl": "cgl", **dict.fromkeys(_WINDOWS, "glfw")}
_DEFAULTS = {"darwin": ("cgl", "glfw"), "win32": ("glfw",)}
_SHADOWS = 1024
"""Pixels of the map of shadows: MuJoCo's 4096 take a processor most of its time and cannot be told apart."""
_SPARE_GEOMS = 100
"""In a scene, for what is drawn besides the body: marks and lights."""
_TRIED_AT_MOST = 60.0
"""Seconds: a driver that hangs is a driver that does not work."""
# MuJoCo and PyOpenGL each settle for one way to draw when they are first imported, and the wrong one cannot
# be taken back. So what works is found out in a process of its own.
_TRIAL = """
import importlib, sys
import mujoco
context = importlib.import_module(f"mujoco.{sys.argv[1]}").GLContext(8, 8)
context.make_current()
model = mujoco.MjModel.from_xml_string("<mujoco/>")
mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value).free()
context.free()
"""


def find_backend() -> str:
    """How MuJoCo can draw here: `egl`, `osmesa`, `cgl` or `glfw`, whichever MUJOCO_GL says or else the first
    that works.

    Raises `UserError` if none does. Takes about a second the first time. Does not import MuJoCo, and can be
    called before it is imported: where MUJOCO_GL names what is not there, importing it fails.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise UserError("Videos need MuJoCo, which is not installed: pip install 'surefoot[mujoco]'.")
    wanted = os.environ.get("MUJOCO_GL", "").lower().strip()
    if wanted and wanted not in _MEANING:
        raise UserError(
            f"MUJOCO_GL is {wanted!r}, and nothing can be drawn that way. Set it to egl or osmesa, or unset "
            "it."
        )
    return _first_that_works(
        (_MEANING[wanted],) if wanted else _DEFAULTS.get(sys.platform, ("egl", "osmesa"))
    )


@lru_cache
def _first_that_works(backends: tuple[str, ...]) -> str:
    complaints = []
    for backend in backends:
        complaint = _complaint(backend)
        if not complaint:
            return backend
        complaints.append(f"{backend}: {complaint}")
    raise UserError(
        f"Nothing can draw MuJoCo's bodies on this machine ({'; '.join(complaints)}). Install EGL with a "
        "software renderer, which needs neither a GPU nor a screen: apt install libegl1 libgl1 "
        "libgl1-mesa-dri; or OSMesa: apt install libosmesa6. MUJOCO_GL=egl or osmesa chooses between them."
    )


def _complaint(backend: str) -> str:
    """Why it does not work, in one line; empty if it does."""
    environment = {**os.environ, "MUJOCO_GL": "disable"}  # so that importing MuJoCo settles nothing
    command = [sys.executable, "-c", _TRIAL, backend]
    try:
        trial = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TRIED_AT_MOST
        )
    except subprocess.TimeoutExpired:
        return "no answer"
    if trial.returncode == 0:
        return ""
    errors = [line for line in trial.stderr.splitlines() if line[:1].isalpha() and "Error" in line]
    return errors[0] if errors else f"exit code {trial.returncode}"


class View(NamedTuple):
    """From where a model is looked at, and what is drawn besides it."""

    camera: Any
    """MuJoCo's `MjvCamera`."""
    goal: Float[np.ndarray, " 2"] | None = None
    """A place on the floor, in metres."""
    arrow: Float[np.ndarray, " 2"] | None = None
    """A direction of the plane, drawn above the body."""


class Screen:
    """Draws any number of models, all at one size. A context manager, to be used from one thread."""

    def __init__(self, width: int, height: int) -> None:
        """Pixels. Raises `UserError` if nothing can be drawn here."""
        self._backend = find_backend()
        self._width, self._height = width, height
        self._stages: dict[int, _Stage] = {}

    def __enter__(self) -> "Screen":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives back what it holds."""
        while self._stages:
            self._stages.popitem()[1].close()

    def draw(self, model: Any, data: Any, view: View) -> UInt8[np.ndarray, "height width 3"]:
        """The model as it is in `data`, whose positions have been worked out."""
        if id(model) not in self._stages:
            self._stages[id(model)] = _Stage(self._backend, model, self._width, self._height)
        return self._stages[id(model)].draw(data, view)


class _Stage:
    """What drawing one model needs. Each has an OpenGL context to itself: MuJoCo leaves lights in it."""

    def __init__(self, backend: str, model: Any, width: int, height: int) -> None:
        library = mujoco()
        self._model = model
        try:
            self._window = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        except (ImportError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{backend} works on this machine, but not in this process: {error}. Something has chosen "
                f"another way to draw before; start Python with MUJOCO_GL={backend}."
            ) from error
        self._window.make_current()
        plain = copy.copy(model)
        plain.vis.quality.shadowsize = min(plain.vis.quality.shadowsize, _SHADOWS)
        self._context = library.MjrContext(plain, library.mjtFontScale.mjFONTSCALE_100.value)
        library.mjr_resizeOffscreen(width, height, self._context)
        library.mjr_setBuffer(library.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = library.MjvScene(model, maxgeom=model.ngeom + _SPARE_GEOMS)
        self._frame = library.MjrRect(0, 0, width, height)
        self._shape = height, width, 3

    def draw(self, data: Any, view: View) -> UInt8[np.ndarray, "height width 3"]:
        library = mujoco()
        everything = library.mjtCatBit.mjCAT_ALL.value
        library.mjv_updateScene(
            self._model, data, library.MjvOption(), None, view.camera, everything, self._scene
        )
        _add_marks(self._scene, data, view)
        picture = np.empty(self._shape, np.uint8)
        self._window.make_current()
        library.mjr_render(self._frame, self._scene, self._context)
        library.mjr_readPixels(picture, None, self._frame, self._context)
        return np.flipud(picture)

    def close(self) -> None:
        self._window.make_current()
        self._context.free()
        self._window.free()


_MARK = (0.82, 0.29, 0.36, 1.0)
_GOAL_SIZE = (0.3, 0.01, 0.0)
_ARROW_LENGTH, _ARROW_WIDTH, _ARROW_HEIGHT = 0.7, 0.04, 0.8


def _add_marks(scene: Any, data: Any, view: View) -> None:
    if view.goal is not None:
        _add_geom(scene, mujoco().mjtGeom.mjGEOM_CYLINDER, _GOAL_SIZE, (*view.goal, _GOAL_SIZE[1]))
    if view.arrow is not None:
        start = data.subtree_com[0] + [0, 0, _ARROW_HEIGHT]
        end = start + _ARROW_LENGTH * np.array([*view.arrow, 0.0])
        arrow = _add_geom(scene, mujoco().mjtGeom.mjGEOM_ARROW, np.zeros(3), start)
        mujoco().mjv_connector(arrow, mujoco().mjtGeom.mjGEOM_ARROW, _ARROW_WIDTH, start, end)


def _add_geom(scene: Any, kind: Any, size: Sequence[float] | np.ndarray, place: Any) -> Any:
    geom = scene.geoms[scene.ngeom]
    mujoco().mjv_initGeom(
        geom,
        kind,
        np.array(size, float),
        np.array(place, float),
        np.eye(3).ravel(),
        np.array(_MARK, np.float32),
    )
    scene.ngeom += 1
    return geom
