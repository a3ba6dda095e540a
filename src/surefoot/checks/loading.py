"""Parts that a user names as MODULE:CLASS."""

import inspect
from typing import Any

from surefoot.checks.failure import location, summary
from surefoot.loading import load
from surefoot.options import UserError


def load_object(name: str) -> Any:
    """What `name`, written MODULE:CLASS, stands for; a class is built without arguments.

    MODULE is a module's dotted name, looked for in the current directory too, or the path of a .py file.
    Raises `UserError` if there is no such thing, or it cannot be built.
    """
    found = load(name)
    return _build(found, name) if inspect.isclass(found) else found


def _build(cls: type, name: str) -> Any:
    if inspect.isabstract(cls):
        missing = ", ".join(f"`{x}`" for x in sorted(cls.__abstractmethods__))
        raise UserError(f"{name} is abstract; it must still implement {missing}.")
    if needed := _needed(cls):
        raise UserError(
            f"{name} cannot be built without arguments: it needs {', '.join(f'`{x}`' for x in needed)}. "
            "Give each a default."
        )
    try:
        return cls()
    except UserError:
        raise
    except Exception as failed:
        raise UserError(f"{name} cannot be built: {summary(failed)}{location(failed)}.") from failed


def _needed(cls: type) -> list[str]:
    """The arguments without a default."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
