"""Configurations as YAML, and back, strictly: what is not understood is an error."""

import dataclasses
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from surefoot.experiment import parts
from surefoot.experiment.config import Config
from surefoot.experiment.files import write_atomically
from surefoot.options import UserError, suggestion

FORMAT = 1
"""Raised when a configuration that an earlier version wrote would no longer mean the same."""


def save_config(config: Config, path: Path) -> None:
    """Writes a YAML file that `load_config` accepts."""
    document = {"surefoot_config": FORMAT, **_plain(config)}
    write_atomically(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())


def load_config(path: Path) -> Config:
    """The configuration in a YAML file. Raises `UserError`, naming the place, if it is not one."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a configuration: {error}") from error
    if not isinstance(document, dict) or "surefoot_config" not in document:
        raise UserError(
            f"{path} is not a surefoot configuration: it has no line `surefoot_config: {FORMAT}`."
        )
    found = document.pop("surefoot_config")
    if found != FORMAT:
        raise UserError(
            f"{path} has configuration format {found!r} and this version of surefoot reads format {FORMAT}. "
            "Use the version that wrote it, or start from a preset and set its options anew."
        )
    try:
        return _build(Config, document, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": parts.name_of(value), **fields} if _room(type(value)) else fields
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _build(cls: type, document: Any, where: str) -> Any:
    if not isinstance(document, dict):
        raise UserError(f"{where or 'the document'} is {document!r}; it must be a mapping of options.")
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for key in document:
        if key not in names:
            raise UserError(f"{where}{key} is not an option.{suggestion(str(key), names)}")
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    for name in required:
        if name not in document:
            raise UserError(f"{where}{name} is missing.")
    return cls(**{key: _convert(hints[key], value, f"{where}{key}") for key, value in document.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type that `hint` names, or a `UserError`."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        return _convert_to_any(get_args(hint), value, where)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_convert(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if get_origin(hint) is Literal and value in get_args(hint):
        return value
    if isinstance(hint, type) and (room := _room(hint)):
        return _build_part(hint, room, value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, f"{where}.")
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool, type(None)) and type(value) is hint:
        return value
    wanted = " or ".join(map(repr, get_args(hint))) if get_origin(hint) is Literal else _describe(hint)
    raise UserError(f"{where} is {value!r}; it must be {wanted}.")


def _convert_to_any(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    for hint in hints:
        try:
            return _convert(hint, value, where)
        except UserError:
            continue
    raise UserError(f"{where} is {value!r}; it must be {' or '.join(map(_describe, hints))}.")


def _build_part(hint: type, room: str, document: Any, where: str) -> Any:
    if not isinstance(document, dict) or not isinstance(document.get("type"), str):
        raise UserError(f"{where} needs a `type`: one of `surefoot list {room}`.")
    options = {key: value for key, value in document.items() if key != "type"}
    part = parts.find(room, document["type"])
    if not issubclass(part, hint):
        raise UserError(
            f"{where} is of type {document['type']!r}; it must be {parts.kebab(hint.__name__)!r}."
        )
    return _build(part, options, f"{where}.")


def _room(cls: type) -> str | None:
    """That of a contract, or of one of its parts; None of what is no part."""
    return next((room for base in cls.__mro__ if (room := parts.room_of(base))), None)


def _describe(hint: Any) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return words.get(hint) or ("a list" if get_origin(hint) is tuple else str(hint))
