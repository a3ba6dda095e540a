"""MuJoCo itself, which is an extra: nothing else here can be imported without it."""

import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from surefoot.options import UserError


@lru_cache
def mujoco() -> Any:
    """MuJoCo's module, whose names no type checker knows. Raises `UserError` where it is not installed."""
    _import("mujoco.rollout")
    return _import("mujoco")


@lru_cache
def load_model(xml: str) -> Any:
    """One of Gymnasium's models, by its file's name. Not to be changed."""
    library = mujoco()
    assets = Path(_import("gymnasium.envs.mujoco").__file__).parent / "assets"
    # Some of the models use words that MuJoCo has since given up, and it says so whenever they are loaded.
    library.set_mju_user_warning(lambda _: None)
    try:
        return library.MjModel.from_xml_path(str(assets / xml))
    finally:
        library.set_mju_user_warning(None)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"This environment needs MuJoCo and Gymnasium, and importing {name} failed: {error}. "
            "Install them: pip install 'surefoot[mujoco]'."
        ) from error
    except Exception as error:  # whatever MuJoCo makes of a MUJOCO_GL that it cannot use
        raise UserError(
            f"Importing {name} failed: {type(error).__name__}: {error}. If MUJOCO_GL is set, it must be one "
            "of egl, osmesa and glfw, and work here; physics do not need it."
        ) from error
