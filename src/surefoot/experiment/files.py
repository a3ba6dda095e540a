"""Folders for results, and files that are written whole or not at all."""

import io
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.options import UserError


def quoted(path: Path) -> str:
    """A path as it is written on a command line."""
    return shlex.quote(str(path))


def must_not_exist(path: Path, option: str = "--out", or_else: str = "") -> None:
    """Raises `UserError` if there is anything at `path`, where results are to be written."""
    try:
        taken = path.exists()
    except OSError as error:
        raise UserError(
            f"There can be nothing at {path}: {error.strerror}. Choose another {option}."
        ) from error
    if taken:
        raise UserError(
            f"{path} exists already, and nothing is written over. Choose another {option}{or_else}."
        )


def make_folder(path: Path, *, new: bool = False) -> None:
    """Makes a folder and those above it, unless it exists and need not be `new`. Raises `UserError` if that
    fails or the folder is not writable."""
    try:
        path.mkdir(parents=True, exist_ok=not new)
    except OSError as error:
        raise UserError(
            f"The folder {path} cannot be made: {error.strerror}. Choose another --out."
        ) from error
    if not os.access(path, os.W_OK):
        raise UserError(f"The folder {path} cannot be written to. Choose another --out.")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file, replacing an older one in a single step: a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def npz(arrays: Mapping[str, Any]) -> bytes:
    """A NumPy archive of these arrays."""
    archive = io.BytesIO()
    plain: dict[str, Any] = {name: np.asarray(x) for name, x in arrays.items()}
    np.savez(archive, **plain)
    return archive.getvalue()
