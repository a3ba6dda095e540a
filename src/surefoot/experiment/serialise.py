"""Configurations as YAML files. Reading is strict: an unknown option or a wrong type is an error."""

import dataclasses
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import yaml

from surefoot.experiment import parts
from surefoot.experiment.config import Config
from surefoot.experiment.files import write_atomically
from surefoot.options import UserError, described, fits, shown, suggestion

FORMAT = 3
"""The number of the format; it rises when a configuration of an earlier version would mean something else."""

_REMEDY = (
    "Options of your own parts must be numbers, texts, true or false, tuples or dataclasses of these, with "
    "their types in full (tuple[float, ...], not tuple), of a class that can be imported by its name."
)


class _StrictLoader(yaml.SafeLoader):
    """YAML without mappings that name a key twice, of which PyYAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                said = f"{key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(problem=said, problem_mark=key.start_mark)
            known.add(str(key.value))
        return super().construct_mapping(node, deep)


def save_config(config: Config, path: Path) -> None:
    """Writes a YAML file that `load_config` accepts."""
    document = {"surefoot_config": FORMAT, **_plain(config, "")}
    write_atomically(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())


def flat_options(config: Config) -> dict[str, Any]:
    """The options in one mapping, by their names on the command line; a part stands there by its name."""
    return _flattened(_plain(config, ""), "")


def _flattened(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Nested mappings as one, by the names of the command line: `algorithm.rule.max_kl` is `rule.max-kl`, and
    the type of a part is the part's own name."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        name = key.replace("_", "-")
        place = where or "algorithm" if key == "type" else f"{where}.{name}" if where else name
        if isinstance(value, Mapping):
            flat.update(_flattened(value, "" if place == "algorithm" else place))
        else:
            flat[place] = value
    return flat


def load_config(path: Path) -> Config:
    """The configuration in a YAML file. Raises `UserError`, naming the place, if it is not one."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except RecursionError:
        raise UserError(f"{path} cannot be read as a configuration: it is nested too deeply.") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{path} cannot be read as a configuration: {line}{error.problem}.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a configuration: {error}") from error
    if not isinstance(document, dict) or "surefoot_config" not in document:
        raise UserError(
            f"{path} is not a surefoot configuration: it has no line `surefoot_config: {FORMAT}`."
        )
    found = document.pop("surefoot_config")
    if type(found) is not int or found != FORMAT:
        raise UserError(
            f"{path} has configuration format {shown(found)} and this version of surefoot reads format "
            f"{FORMAT}. Use the version that wrote it, or start from a preset and set its options anew."
        )
    try:
        return _build(Config, document, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def check_round_trip(config: Config) -> None:
    """Raises `UserError`, naming the option, if the file of this configuration could not be written, or would
    be read as another one: no run could be loaded or resumed from it."""
    document = _plain(config, "")
    try:
        found = _build(Config, yaml.safe_load(yaml.safe_dump(document)), "")
    except Exception as error:  # the options of the user's own parts may raise anything
        told = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise UserError(f"A run could not read its own config.yaml again. {told} {_REMEDY}") from error
    if place := _difference(config, found, ""):
        raise UserError(f"A run would read another {place} from its config.yaml. {_REMEDY}")


def _difference(one: Any, other: Any, where: str) -> str:
    """The place of the innermost option in which two configurations differ; empty if there is none."""
    if type(one) is type(other) and dataclasses.is_dataclass(one):
        names = [f.name for f in dataclasses.fields(one) if f.init]
        places = (_difference(getattr(one, n), getattr(other, n), _join(where, n)) for n in names)
        return next(filter(None, places), "")
    both_nan = one != one and other != other
    return "" if one == other or both_nan else where


def _plain(value: Any, where: str) -> Any:
    """The value in the types of YAML. Raises `UserError` if there are none for it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.init]
        fields = {name: _plain(getattr(value, name), _join(where, name)) for name in names}
        return {"type": parts.name_of(value), **fields} if parts.kind_of(type(value)) else fields
    if isinstance(value, tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in (int, float, str, bool, type(None)):
        return value
    if parts.kind_of(type(value)):
        raise UserError(
            f"{where} is a {type(value).__name__}, which is no dataclass, and a run could not keep its "
            "options. Decorate the class with @dataclass(frozen=True)."
        )
    raise UserError(f"{where} is {value!r}, which config.yaml cannot hold. {_REMEDY}")


def _join(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else f"{name}"


def _build(cls: type, document: Any, where: str) -> Any:
    """A dataclass from the mapping of its options. Raises `UserError`, naming the place."""
    if not isinstance(document, dict):
        raise UserError(f"{where or 'the document'} is {shown(document)}; it must be a mapping of options.")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in document:
        if key not in fields:
            raise UserError(f"{_join(where, key)} is not an option.{suggestion(str(key), fields)}")
    for name, field in fields.items():
        if name not in document and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{_join(where, name)} is missing.")
    return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in document.items()})


def _build_part(hint: type, kind: str, document: Any, where: str) -> Any:
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        raise UserError(f"{where} needs a `type`: one of `surefoot list {kind}`.")
    part = parts.find(kind, document["type"])
    if not issubclass(part, hint):
        raise UserError(f"{where} is of type {document['type']!r}; it must be {parts.part_name(hint)!r}.")
    return _build(part, {key: value for key, value in document.items() if key != "type"}, where)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type that `hint` names. Raises `UserError`, naming the place."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for kind in arguments:
            with suppress(UserError):
                return _convert(kind, value, where)
    elif origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            pairs = enumerate(zip(kinds, value, strict=True))
            return tuple(_convert(kind, item, f"{where}[{i}]") for i, (kind, item) in pairs)
    elif isinstance(hint, type) and (part := parts.kind_of(hint)):
        return _build_part(hint, part, value, where)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where)
    elif hint is float and type(value) in (int, float, str):  # PyYAML reads the number `1e-1` as a text
        with suppress(ValueError, OverflowError):
            return float(value)
    elif (origin is Literal or hint in (int, str, bool, type(None))) and fits(value, hint):
        return value
    raise UserError(f"{where} is {shown(value)}; it must be {described(hint, 'list', 'null')}.")
