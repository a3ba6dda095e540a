"""A timeline: the record of what workers and the learner do, and when."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Job:
    """A call of a worker, from its submission to its answer. Times are seconds of one clock."""

    submitted: float
    """The time at which it joined the queue."""
    worker: int | None = None
    """The number of the worker that took it."""
    started: float | None = None
    """The time at which the worker took it from the queue."""
    began: float | None = None
    """The time at which the worker's process began the call itself: it had started and compiled."""
    ended: float | None = None
    """The time at which the answer had arrived."""
    task: int | None = None
    """The task's number in the batch; None where the caller does not say."""
    phase: int | None = None
    """The number of steps of adaptation before it; None where the caller does not say."""

    def end(self, began: float) -> None:
        """The answer has arrived; the process began the call at `began`."""
        self.began = max(began, self.started or began)
        self.ended = time.monotonic()


@dataclass
class Work:
    """Something that the learner did in its own process. Times are seconds of one clock."""

    kind: str
    """One of `WORK`."""
    started: float
    ended: float
    task: int | None = None
    phase: int | None = None


WORK = {
    "compile": "compilation of its programs, while the workers start",
    "adapt": "the batch of a task's episodes and an inner step on it",
    "prepare": "the batch of a task's last episodes",
    "learn": "the learning step, with the metrics and checkpoints that are written after it; in the first "
    "iteration also the compilation of what is not compiled by then",
}
"""The kinds of the learner's work."""


class Timeline:
    """Records jobs of workers and work of the learner, in seconds of `time.monotonic`. It records nothing
    before `start`."""

    def __init__(self) -> None:
        self.workers = 0
        """The number of workers."""
        self._is_recording = False
        self._lock = threading.Lock()
        self._jobs: dict[Future[Any], Job] = {}
        self._work: list[Work] = []

    def start(self) -> None:
        """Records from now on."""
        self._is_recording = True

    def submitted(self) -> Job | None:
        """A job that joins the queue now; None where nothing is recorded."""
        return Job(time.monotonic()) if self._is_recording else None

    def add(self, future: Future[Any], job: Job | None) -> None:
        """Adds a job, by the future that holds its answer."""
        if job is not None:
            with self._lock:
                self._jobs[future] = job

    def label(self, future: Future[Any], task: int, phase: int | None = None) -> None:
        """Says which task and phase a job is for."""
        with self._lock:
            job = self._jobs.get(future)
        if job is not None:
            job.task, job.phase = task, phase

    @contextmanager
    def work(self, kind: str, task: int | None = None, phase: int | None = None) -> Iterator[None]:
        """Records the body as work of the learner."""
        started = time.monotonic()
        yield
        if self._is_recording:
            self._work.append(Work(kind, started, time.monotonic(), task, phase))

    def take(self) -> tuple[list[Job], list[Work]]:
        """The jobs and the work that have ended since the last call."""
        ended, others = [], {}
        with self._lock:
            for future, job in self._jobs.items():
                done = future.done()  # asked first: a job ends before its future is done
                if job.ended is not None:
                    ended.append(job)
                elif not done:  # a lost call has no answer
                    others[future] = job
            self._jobs = others
            work, self._work = self._work, []
        return ended, work
