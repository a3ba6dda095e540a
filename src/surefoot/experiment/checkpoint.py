"""Checkpoints: every array of a training state in one file, written atomically and checked when read.

A file is one line of JSON (what it is, of which iteration, and the SHA-256 of the rest) and a NumPy archive
with one entry for each array, named by its place in the state.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from surefoot.experiment.files import npz, write_atomically
from surefoot.options import UserError
from surefoot.types import with_key, without_key

_MAGIC = "surefoot checkpoint"
_FORMAT = 1
_ELSEWHERE = "belongs to another configuration, or to another version of surefoot"


class UnreadableError(UserError):
    """A file that is damaged, or no checkpoint at all: an earlier one may serve."""


def save(path: Path, state: PyTree, iteration: int, run: str = "") -> None:
    """Writes `state`, whose leaves are arrays or random keys, as it was after `iteration` iterations. `run`
    identifies the run that it belongs to."""
    payload = npz({name: without_key(leaf) for name, leaf in _named(state).items()})
    digest = hashlib.sha256(payload).hexdigest()
    header = {"file": _MAGIC, "format": _FORMAT, "run": run, "iteration": iteration, "sha256": digest}
    write_atomically(path, json.dumps(header).encode() + b"\n" + payload)


def load(path: Path, like: PyTree, run: str = "") -> tuple[PyTree, int]:
    """The state in a checkpoint, and its iteration. `like` has the expected structure, shapes and types.

    Raises `UserError` if the file is of another configuration, run or iteration than `like`, `run` and its
    name say, and its subclass `UnreadableError` if it is missing, damaged or foreign.
    """
    header, payload = _read(path)
    if run and header.get("run") and header["run"] != run:
        raise UserError(f"{path} {_ELSEWHERE}: it was written under other options than those of the run.")
    if path.stem.isdecimal() and int(path.stem) != header["iteration"]:
        raise UserError(
            f"{path} holds the state after {header['iteration']} iterations, and its name says otherwise. "
            "Give it its own name again."
        )
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UnreadableError(f"{path} cannot be read: {error}.") from error
    expected = _named(like)
    if arrays.keys() != expected.keys():
        raise UserError(f"{path} {_ELSEWHERE}: {_difference(arrays, expected)}.")
    leaves = [_restore(path, name, arrays[name], leaf) for name, leaf in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), header["iteration"]


def is_sound(path: Path) -> bool:
    """Whether a file is a checkpoint as it was written."""
    try:
        _read(path)
    except UserError:
        return False
    return True


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        line, _, payload = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise UnreadableError(f"The checkpoint {path} cannot be opened: {error.strerror}.") from error
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("file") != _MAGIC or "format" not in header:
        raise UnreadableError(f"{path} is not a surefoot checkpoint.")
    if header["format"] != _FORMAT:
        raise UserError(
            f"{path} has checkpoint format {header['format']} and this version of surefoot reads {_FORMAT}. "
            "Use the version that wrote it."
        )
    if type(header.get("iteration")) is not int or hashlib.sha256(payload).hexdigest() != header.get(
        "sha256"
    ):
        raise UnreadableError(f"The checkpoint {path} is damaged: its checksum is wrong.")
    return header, payload


def _named(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in leaves}


def _restore(path: Path, name: str, value: np.ndarray, like: Any) -> Array:
    wanted = eqx.filter_eval_shape(without_key, like)
    # An axis that is empty in the first state is one that grows.
    same = len(value.shape) == len(wanted.shape)
    same &= all(size in (0, now) for size, now in zip(wanted.shape, value.shape, strict=False))
    if not same or value.dtype != wanted.dtype:
        raise UserError(
            f"{path} {_ELSEWHERE}: {name} is {value.dtype}{list(value.shape)} in it and "
            f"{wanted.dtype}{list(wanted.shape)} in the run's."
        )
    return with_key(value, like)


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    words = [f"it lacks {sorted(missing)[0]}"] if missing else []
    return " and ".join([*words, *([f"it has {sorted(extra)[0]}, which the run has not"] if extra else [])])
