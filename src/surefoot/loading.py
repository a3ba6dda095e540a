"""Loading of objects that a user names as MODULE:NAME."""

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from surefoot.options import UserError, first_line, shown, suggestion

_LIBRARY = f"{Path(__file__).parent}{os.sep}"
_STDLIB = sysconfig.get_paths()["stdlib"]


def load_class(name: str) -> type:
    """The class of this name, written MODULE:CLASS.

    MODULE is a module's dotted name, searched for in the current directory too, or the path of a .py file.
    Raises `UserError` if there is none.
    """
    found = load(name)
    if not inspect.isclass(found):
        raise UserError(f"{name} is a {type(found).__name__}, not a class; name the class itself.")
    return found


def load(name: str) -> Any:
    """The object of this name, written MODULE:NAME. Otherwise as `load_class`."""
    module_name, colon, attribute = name.rpartition(":")
    if not (colon and module_name and attribute):
        raise UserError(
            f"{name!r} names no class; write MODULE:CLASS, as in my_envs:Maze or path/to/my_envs.py:Maze."
        )
    module = _module(module_name)
    if not hasattr(module, attribute):
        near = suggestion(attribute, [x for x in vars(module) if not x.startswith("_")])
        raise UserError(f"{module_name} has no {attribute!r}.{near}")
    return getattr(module, attribute)


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _from_file(Path(name))
    search(Path.cwd())
    try:
        return importlib.import_module(name)
    except FAILURES as failed:
        missing = failed.name if isinstance(failed, ModuleNotFoundError) else None
        # It is the named module that is missing, or a package that should contain it.
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            part = "" if missing == name else f", for there is no {missing!r}"
            raise UserError(
                f"There is no module {name!r}{part}. It was looked for in {Path.cwd()} and among the "
                "installed packages; a file can be named by its path, path/to/file.py:CLASS."
            ) from None
        raise UserError(_failed(name, failed)) from failed


def _from_file(path: Path) -> ModuleType:
    """The module of a file, with the file's own name, so that other processes can import it too."""
    try:
        path = path.resolve()
        there = path.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise UserError(f"There is no file {shown(str(path))}: {error.args[-1]}.") from error
    if not there:
        raise UserError(f"There is no file {path}.")
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path:
        return known
    # Before its folder is searched: every import of the other module, in workers too, would find this file.
    if known is not None or path.stem in sys.stdlib_module_names:
        raise UserError(f"{path} has the name of another module, {path.stem!r}; rename the file.")
    if "." in path.stem:
        raise UserError(f"{path} cannot be imported by workers, since its name has a dot; rename the file.")
    search(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except FAILURES as failed:
        del sys.modules[path.stem]
        raise UserError(_failed(path.name, failed)) from failed
    return module


def search(folder: Path) -> None:
    """Makes imports search `folder` first, also later ones inside functions."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def user_line(error: BaseException) -> str | None:
    """The deepest line of the user's own code that an exception came through, FILE:LINE; None if there is
    none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if is_user_code(frame.filename)]
    return f"{relative(lines[-1].filename)}:{lines[-1].lineno}" if lines else None


FAILURES = (Exception, SystemExit, GeneratorExit)
"""The exceptions of a user's code. Ctrl-C is not among them, since it is meant for the run."""


def told(error: BaseException) -> str:
    """An exception for a message: its class, its first line, cut where it is long, and the deepest line of
    the user's own code."""
    try:
        text = first_line(str(error))
    except Exception:
        text = "(its message cannot be shown)"
    line = user_line(error)
    return f"{type(error).__name__}{': ' * bool(text)}{text}" + f" at {line}" * (line is not None)


def _failed(name: str, failed: BaseException) -> str:
    return f"Importing {name} failed: {told(failed)}."


def is_user_code(file: str) -> bool:
    """Whether a file of a traceback belongs neither to the library, nor to Python, nor to a package."""
    packaged = "site-packages" in file or "dist-packages" in file or file.endswith(".pyx")
    return not (file.startswith(("<", _LIBRARY, _STDLIB)) or packaged)


def relative(file: str) -> str:
    """The file's path from the current directory, if it is in it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
