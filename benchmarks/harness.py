"""What the comparisons share: a process for each side, interleaved timing, peak memory, tables and JSON.

Each side of a comparison lives in a process of its own, which imports nothing of the others. Its memory is
then its own. So is its thread pool: one that has just been used spins for a few milliseconds before it
sleeps, which the next side, whose turn is much longer, hardly notices.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

MIB = 2**20


@dataclass(frozen=True)
class Reply:
    """What a worker's call returned, and what it cost."""

    value: Any
    seconds: float
    cpu_seconds: float
    """Processor time of all threads: what else the machine does bears on it less. It counts threads that spin
    while they wait for others."""
    resident: int
    """Bytes resident when the call had ended."""
    peak: int
    """Most bytes resident at any moment of the call."""


class Worker:
    """An object in a process of its own, whose methods are called from here.

    `factory` is `"module:callable"`; it is imported in the new process only, and called there with `args`.
    An exception in the process is raised here, with its traceback as the message.
    """

    def __init__(self, factory: str, *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, factory, args), daemon=True)
        self._process.start()
        theirs.close()
        self.started = self._receive()

    def call(self, method: str, *args: Any) -> Reply:
        """`object.method(*args)`, timed from call to return inside the process."""
        self._connection.send((method, args))
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> Reply:
        reply = self._connection.recv()
        if isinstance(reply, str):
            raise RuntimeError(f"a worker of the benchmark failed:\n{reply}")
        return reply


def harness_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark takes."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    repeats = "rounds of timing (default: 7, or 2 with --quick)"
    parser.add_argument("--repeats", type=int, metavar="N", help=repeats)


def _serve(connection: Connection, factory: str, args: tuple[Any, ...]) -> None:
    module, name = factory.split(":")
    try:
        served, reply = _observed(lambda: getattr(importlib.import_module(module), name)(*args))
        connection.send(reply)
        while True:
            method, args = connection.recv()
            value, reply = _observed(lambda method=method, args=args: getattr(served, method)(*args))
            connection.send(replace(reply, value=value))
    except EOFError:
        return
    except Exception:
        connection.send(traceback.format_exc())


def _observed(f: Callable[[], Any]) -> tuple[Any, Reply]:
    _forget_peak()
    start, cpu_start = time.perf_counter(), time.process_time()
    value = f()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return value, Reply(None, seconds, cpu_seconds, _status("VmRSS"), _status("VmHWM"))


def _forget_peak() -> None:
    """Start the high-water mark of this process's memory anew (man 5 proc, clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(field + ":")]
    return int(line.split()[1]) * 1024


def interleaved(calls: Mapping[str, Callable[[], Reply]], repeats: int) -> dict[str, list[Reply]]:
    """Every call in turn, `repeats` times round, so that what else the machine does falls on all alike."""
    replies: dict[str, list[Reply]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            replies[name].append(call())
    return replies


def median(replies: Sequence[Reply], field: str = "seconds") -> float:
    return statistics.median(getattr(reply, field) for reply in replies)


def median_ratio(numerator: Sequence[Reply], denominator: Sequence[Reply], field: str = "seconds") -> float:
    """The median over rounds of one side's figure by another's in the same round."""
    pairs = zip(numerator, denominator, strict=True)
    return statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs)


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = model[0].split(":")[1].strip() if model else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": name, "cores": cores(), "memory_bytes": memory, "python": platform.python_version()}


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Text, the first column to the left and figures to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A table that goes to a file is not to be squeezed into a terminal's width.
    console = Console()
    Console(width=max(console.width, 120)).print(table)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=2, default=list) + "\n")
