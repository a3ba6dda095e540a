"""The timeline of a run on disk: what its workers and the learner did, a line of JSON for each iteration.

A line holds `iteration`, its `seconds`, the number of `workers`, the workers' `jobs` and the `learner`'s
work. Times are seconds since the iteration began.
"""

import itertools
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from surefoot.experiment.callbacks import Event
from surefoot.experiment.files import quoted, write_atomically
from surefoot.experiment.metrics import read_rows
from surefoot.options import UserError
from surefoot.samplers.timeline import WORK, Job, Timeline, Work

_TOLERANCE = 1e-3
"""Seconds by which times may be out of order, which are rounded."""


@dataclass(frozen=True)
class IterationTimeline:
    """The jobs of workers and the work of the learner in one iteration. Times are seconds since it began."""

    iteration: int
    seconds: float
    workers: int
    jobs: list[Job]
    learner: list[Work]

    def utilisation(self) -> list[float]:
        """For each worker, the share of the iteration's time in which it sampled: without the time in which
        its process started and compiled. A call that runs on into another iteration, as A3C's may, counts
        where it ends."""
        sampled = [0.0] * self.workers
        for job in self.jobs:
            assert job.worker is not None
            assert job.began is not None
            assert job.ended is not None
            sampled[job.worker] += job.ended - max(job.began, 0.0)
        return [seconds / self.seconds for seconds in sampled]

    def learner_share(self, kind: str) -> float:
        """The share of the iteration's time that the learner spent with one kind of work."""
        return sum(work.ended - work.started for work in self.learner if work.kind == kind) / self.seconds


def timeline_path(run: Path) -> Path:
    """The file of a run's timeline, which exists if the run is traced."""
    return run / "timeline.jsonl"


class TimelineWriter:
    """A callback that writes a sampler's timeline to a run folder, an iteration a line. What the file holds
    of later iterations than `iteration` is removed, since they will be computed again."""

    def __init__(self, run: Path, timeline: Timeline, iteration: int) -> None:
        self._path, self._timeline, self._iteration = timeline_path(run), timeline, iteration

    def begin(self, _: Any) -> None:
        """Opens the file, when the run is locked."""
        kept = [row for row in read_timeline(self._path) if row.iteration <= self._iteration]
        write_atomically(self._path, "".join(map(_line, kept)).encode())
        self._file = self._path.open("a", encoding="utf-8")
        self._began = time.monotonic()
        self._timeline.start()

    def __call__(self, event: Event) -> None:
        now, began = time.monotonic(), self._began
        jobs, work = self._timeline.take()
        last = max([began, *(work.ended for work in work), *(job.ended or 0.0 for job in jobs)])
        row = IterationTimeline(
            event.iteration,
            now - began,
            self._timeline.workers,
            [_since(began, job) for job in jobs],
            [_since(began, one) for one in [*work, Work("learn", last, now)]],
        )
        self._file.write(_line(row))
        self._file.flush()
        self._began = now

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


_TIMES = ("submitted", "started", "began", "ended")


def _since(began: float, span: Any) -> Any:
    """A job or work with its times since `began`."""
    times = {name: getattr(span, name) - began for name in _TIMES if hasattr(span, name)}
    return replace(span, **times)


def _line(row: IterationTimeline) -> str:
    """The row as a line of JSON, in microseconds."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rounded(x) for name, x in value.items()}
        if isinstance(value, list):
            return [rounded(x) for x in value]
        return round(value, 6) if isinstance(value, float) else value

    return json.dumps(rounded(asdict(row))) + "\n"


def read_timeline(path: Path) -> list[IterationTimeline]:
    """The iterations in a `timeline.jsonl`, without a last line that was cut short; none if there is no such
    file. Raises `UserError` if another line does not hold the timeline of a later iteration."""
    rows = read_rows(
        path,
        _is_next,
        "the timeline of a later iteration than the line before. Move the file away; training does not need "
        "it.",
    )
    return [_parsed(row) for row in rows]


def traced_iterations(run: Path) -> list[IterationTimeline]:
    """The timeline of a run, at least one iteration. Raises `UserError` if it has none or it is damaged."""
    rows = read_timeline(timeline_path(run))
    if not rows:
        raise UserError(
            f"{run} has no timeline: it was trained without --trace. Train with it: surefoot train PRESET "
            f"--sampler processes --trace --out {quoted(run.with_name(run.name + '-traced'))}"
        )
    return rows


def _parsed(row: dict[str, Any]) -> IterationTimeline:
    jobs, learner = ([kind(**x) for x in row[name]] for kind, name in ((Job, "jobs"), (Work, "learner")))
    return IterationTimeline(**{**row, "jobs": jobs, "learner": learner})


def _is_next(row: Any, rows: list[dict[str, Any]]) -> bool:
    """Whether a row is the timeline of an iteration after the last one's: every job is of a worker there is
    and every work of a kind there is, and their times follow one another up to the iteration's end."""
    try:
        found = _parsed(row)
        spans: list[Any] = [*found.jobs, *found.learner]
        places = [x for span in spans for x in (span.task, span.phase) if x is not None]
        counts = [found.iteration, found.workers, *(job.worker for job in found.jobs), *places]
        times = [[getattr(span, name) for name in _TIMES if hasattr(span, name)] for span in spans]
        return (
            all(type(count) is int and count >= 0 for count in counts)
            and found.iteration > (rows[-1]["iteration"] if rows else 0)
            and found.workers > 0
            and all(job.worker in range(found.workers) for job in found.jobs)
            and all(work.kind in WORK for work in found.learner)
            and found.seconds > 0
            and all(map(math.isfinite, [found.seconds, *itertools.chain(*times)]))
            and all(a <= b + _TOLERANCE for x in times for a, b in itertools.pairwise([*x, found.seconds]))
        )
    except (TypeError, KeyError, AttributeError):
        return False
