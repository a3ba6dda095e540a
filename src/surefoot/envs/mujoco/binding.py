"""Import of MuJoCo and its models. MuJoCo is an extra, so it is imported when it is first used."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from surefoot.options import UserError, import_extra


@lru_cache
def mujoco() -> Any:
    """The module `mujoco`, without types. Raises `UserError` if it is not installed."""
    _import("mujoco.rollout")
    return _import("mujoco")


@lru_cache
def load_model(xml: str) -> Any:
    """One of Gymnasium's models, by its file name. It is shared: copy it before changing it."""
    library = mujoco()
    assets = Path(_import("gymnasium.envs.mujoco").__file__).parent / "assets"
    # Some of the models use deprecated attributes, and MuJoCo warns whenever they are loaded.
    library.set_mju_user_warning(lambda _: None)
    try:
        return library.MjModel.from_xml_path(str(assets / xml))
    finally:
        library.set_mju_user_warning(None)


def _import(name: str) -> Any:
    try:
        return import_extra(name, "This environment needs MuJoCo and Gymnasium", "mujoco")
    except UserError:
        raise
    except Exception as error:  # MuJoCo's errors for a MUJOCO_GL that it cannot use vary
        raise UserError(
            f"Importing {name} failed: {type(error).__name__}: {error}. If MUJOCO_GL is set, it must be one "
            "of egl, osmesa and glfw, and work here; the physics does not need it."
        ) from error
