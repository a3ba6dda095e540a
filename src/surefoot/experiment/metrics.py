"""Metrics on disk, written after each iteration: a line of JSON, and the same for TensorBoard."""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from surefoot.experiment.files import write_atomically
from surefoot.experiment.loggers import Hyperparameter, axis, tagged
from surefoot.experiment.tensorboard import TensorBoard
from surefoot.options import UserError


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, without a last one that was cut short. Numbers that are not finite are
    None. Raises `UserError` unless every other line has the metrics, numbers or null, of the iteration after
    the line before."""

    def is_next(row: Any, rows: list[dict[str, Any]]) -> bool:
        return (
            isinstance(row, dict)
            and all(type(value) in (int, float, type(None)) for value in row.values())
            and type(row.get("iteration")) is int
            # A learner that was saved may begin with any iteration.
            and (not rows or row["iteration"] == rows[-1]["iteration"] + 1)
        )

    return read_rows(
        path,
        is_next,
        "the metrics of the next iteration. Mend it, or move the file away to go on without the metrics so "
        "far.",
    )


def read_rows(
    path: Path, is_next: Callable[[Any, list[dict[str, Any]]], bool], expected: str
) -> list[dict[str, Any]]:
    """The JSON in each line of a file, without a last line that was cut short; nothing if there is no file.
    Raises `UserError`, which ends with `expected`, unless `is_next(row, rows before it)` of every other
    line."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        row = _json(line)
        if is_next(row, rows):
            rows.append(row)
        elif number < len(lines):
            raise UserError(f"{path} is damaged: its line {number} does not hold {expected}")
    return rows


def _json(line: bytes) -> Any:
    """The value of a line of JSON; None if it is not JSON."""
    try:
        return json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


class MetricsWriter:
    """Appends to `metrics.jsonl` and `tensorboard/` of a run, after moving what follows `iteration` to
    `metrics.dropped.jsonl`. Raises `UserError` if the file is damaged, or ends before `iteration`.

    A run that was killed may have written more after its last checkpoint; resuming it computes that again.
    TensorBoard is told `parameters` too.
    """

    def __init__(
        self, folder: Path, iteration: int, parameters: Mapping[str, Hyperparameter] = MappingProxyType({})
    ) -> None:
        path = folder / "metrics.jsonl"
        rows = read_metrics(path)
        kept = [row for row in rows if row["iteration"] <= iteration]
        dropped = rows[len(kept) :]
        if kept and kept[-1]["iteration"] < iteration:
            raise UserError(
                f"{path} ends at iteration {kept[-1]['iteration']}, and the checkpoint is of iteration "
                f"{iteration}. Resume an earlier checkpoint, or move the file away to go on without the "
                "metrics so far."
            )
        if dropped:
            with (folder / "metrics.dropped.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(map(_line, dropped))
        write_atomically(path, "".join(map(_line, kept)).encode())
        self._file = path.open("a", encoding="utf-8")
        last = axis(iteration, kept[-1] if kept else {})
        self._board = TensorBoard(folder / "tensorboard", purge_step=last + 1)
        self._board.start(parameters)

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes the metrics of `row["iteration"]`; they are on disk when this returns."""
        self._file.write(_line(row))
        self._file.flush()
        self._board.log(tagged(row), axis(row["iteration"], row))

    def sync(self) -> None:
        """Makes sure that what was written outlives a failure of the machine."""
        os.fsync(self._file.fileno())

    def close(self, *, succeeded: bool = True) -> None:
        """Closes both files; TensorBoard is told whether training `succeeded`."""
        self._file.close()
        self._board.finish(succeeded)


def _line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON. NaN and infinity, which JSON does not have, become null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"
