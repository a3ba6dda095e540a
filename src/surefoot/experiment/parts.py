"""The names of the parts an experiment is made of, derived from what each package exports."""

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from surefoot import algorithms, baselines, envs, policies, rules, samplers
from surefoot.loading import FAILURES, load, load_class, told
from surefoot.options import UserError, suggestion

KINDS: dict[str, tuple[ModuleType, type]] = {
    "envs": (envs, envs.AbstractFamily),
    "policies": (policies, policies.PolicyOptions),
    "auxiliaries": (policies, policies.AbstractAuxiliary),
    "baselines": (baselines, baselines.AbstractBaseline),
    "rules": (rules, rules.AbstractRule),
    "algorithms": (algorithms, algorithms.AbstractAlgorithm),
    "samplers": (samplers, samplers.SamplerOptions),
}
"""Each kind of part: the package that exports the parts, and the class from which they derive."""
LIBRARIES = {"gym": envs.Gymnasium, "gymnax": envs.Gymnax, "atari": envs.Atari}
"""The class for environments that are written LIBRARY:NAME."""


def kebab(name: str) -> str:
    """`PPOClip` -> `ppo-clip`, `Navigation2D` -> `navigation-2d`, `Walker2d` -> `walker2d`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z]|[0-9]+[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def part_name(cls: type) -> str:
    """The name of a part's class on the command line and in files: its own attribute `part_name`, which is
    not inherited, or else its class name in lower case with hyphens."""
    return vars(cls).get("part_name") or kebab(cls.__name__)


def parts(kind: str) -> Mapping[str, type]:
    """The library's parts of one kind, by name."""
    module, base = KINDS[kind]
    exported = vars(module).values()
    return {
        part_name(cls): cls
        for cls in exported
        if inspect.isclass(cls) and issubclass(cls, base) and not inspect.isabstract(cls)
    }


def kind_of(cls: type) -> str | None:
    """The kind of a part's class, or of a class from which parts derive; None if it is no part."""
    return next((kind for kind, (_, base) in KINDS.items() if issubclass(cls, base)), None)


def find(kind: str, name: str) -> type:
    """The class of that name, or the user's own given as `MODULE:CLASS`. Raises `UserError`."""
    known = parts(kind)
    if name in known:
        return known[name]
    if ":" in name:
        found, base = load_class(name), KINDS[kind][1]
        if not issubclass(found, base):
            raise UserError(f"{name} cannot be used here: it does not derive from {base.__name__}.")
        return found
    raise UserError(
        f"There is no {name!r} among the {kind}.{suggestion(name, known)} "
        f"`surefoot list {kind}` shows them; one of your own is named MODULE:CLASS."
    )


def make(kind: str, name: str) -> Any:
    """A part with its defaults, by the name of its class. An environment may also be `gym:ID`, `gymnax:ID` or
    `atari:GAME`, or a class of the user's with Gymnasium's interface. Raises `UserError`."""
    library, _, its_name = name.partition(":")
    if kind == "envs" and library in LIBRARIES:
        return LIBRARIES[library](its_name)
    if kind == "envs" and ":" in name and makes_gymnasium(load(name)):
        return envs.Gymnasium(name)
    cls = find(kind, name)
    try:
        return cls()
    except FAILURES as error:
        if isinstance(error, UserError) or name in parts(kind):
            raise
        raise UserError(f"Making {name} failed: {told(error)}.") from error


def makes_gymnasium(found: Any) -> bool:
    """Whether something named MODULE:NAME makes an environment with Gymnasium's interface: a class of one, or
    a function."""
    if inspect.isclass(found):
        return hasattr(found, "metadata") and not issubclass(found, envs.AbstractFamily)
    return inspect.isroutine(found)


def name_of(part: Any) -> str:
    """The name by which `find` finds the class of a part."""
    cls = type(part)
    name, kind = part_name(cls), kind_of(cls)
    return name if kind and parts(kind).get(name) is cls else f"{cls.__module__}:{cls.__qualname__}"
