"""The names of the parts an experiment is made of, derived from what each room exports."""

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from surefoot import algorithms, baselines, envs, policies, rules, samplers
from surefoot.loading import load_class
from surefoot.options import UserError, suggestion

_ROOMS: dict[str, tuple[ModuleType, type]] = {
    "envs": (envs, envs.AbstractFamily),
    "policies": (policies, policies.PolicyOptions),
    "auxiliaries": (policies, policies.AbstractAuxiliary),
    "baselines": (baselines, baselines.AbstractBaseline),
    "rules": (rules, rules.AbstractRule),
    "algorithms": (algorithms, algorithms.AbstractAlgorithm),
    "samplers": (samplers, samplers.SamplerOptions),
}


def kebab(name: str) -> str:
    """`PPOClip` -> `ppo-clip`, `Navigation2D` -> `navigation-2d`, `Walker2d` -> `walker2d`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z]|[0-9]+[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def rooms() -> tuple[str, ...]:
    """The rooms that hold parts."""
    return tuple(_ROOMS)


def parts(room: str) -> Mapping[str, type]:
    """The parts that a room exports, by name."""
    module, base = _ROOMS[room]
    exported = vars(module).values()
    classes = [
        x for x in exported if inspect.isclass(x) and issubclass(x, base) and not inspect.isabstract(x)
    ]
    return {kebab(cls.__name__): cls for cls in classes}


def room_of(base: type) -> str | None:
    """The room whose parts derive from this class, itself one of the contracts; None if it is not."""
    return next((room for room, (_, contract) in _ROOMS.items() if base is contract), None)


def find(room: str, name: str) -> type:
    """The part of that name, or the user's own given as `MODULE:CLASS`."""
    known = parts(room)
    if name in known:
        return known[name]
    if ":" in name:
        return load_class(name)
    raise UserError(
        f"There is no {name!r} among the {room}.{suggestion(name, known)} "
        f"`surefoot list {room}` shows them; one of your own is named MODULE:CLASS."
    )


def make(room: str, name: str) -> Any:
    """That part, with its defaults. Of environments also those that follow Gymnasium's interface: `gym:ID`,
    or a class of the user's."""
    if room == "envs" and name.startswith("gym:"):
        return envs.Gymnasium(name.removeprefix("gym:"))
    part = find(room, name)
    if room == "envs" and not issubclass(part, envs.AbstractFamily) and hasattr(part, "metadata"):
        return envs.Gymnasium(name)
    return part()


def name_of(part: Any) -> str:
    """The inverse of `find`, for an instance."""
    cls = type(part)
    known = kebab(cls.__name__)
    listed = any(parts(room).get(known) is cls for room in _ROOMS)
    return known if listed else f"{cls.__module__}:{cls.__qualname__}"
