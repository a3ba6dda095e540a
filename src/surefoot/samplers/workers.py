"""A pool of workers: calls wait in an executor, and each worker takes the next as soon as it is free.

A worker is a thread of this process, which sends its calls to a *backend*, another process here or elsewhere,
and waits for the answer. A backend that is lost is replaced, and its call is made again: calls whose results
depend only on their arguments give the same results.
"""

import itertools
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from surefoot.options import UserError, check
from surefoot.samplers.messages import name_of, packed, unpacked
from surefoot.samplers.timeline import Job, Timeline


class LostError(Exception):
    """A call has no answer because its process died or took too long. The message continues the sentence "the
    worker process". `started` says whether the process was ready for calls."""

    def __init__(self, message: str, *, started: bool = True) -> None:
        super().__init__(message)
        self.started = started


class AbstractWorkerBackend(ABC):
    """A process that carries out calls, one at a time."""

    waiting_since: float = 0.0
    """The time, of `time.monotonic`, at which it began to wait for the answer to the last call."""

    @abstractmethod
    def call(self, message: bytes, time_limit: float, start_limit: float) -> bytes:
        """The answer to a packed call, within `time_limit` seconds; besides, the process has `start_limit`
        seconds to start, and as many to compile for a call of a new form. Raises `LostError`, after which the
        backend is of no more use."""

    @abstractmethod
    def close(self) -> None:
        """Ends the process at once, from any thread. A call in progress raises `LostError`."""

    def wait(self) -> None:  # noqa: B027 (most leave nothing)
        """Waits, after `close`, until nothing is left of the process."""


class Workers:
    """A fixed number of workers. They start when they are first needed. They end with `close`, when nothing
    refers to them any more, or with this process, whatever they are doing then."""

    def __init__(
        self,
        backend: Callable[[], AbstractWorkerBackend],
        *,
        workers: int,
        attempts: int,
        time_limit: float,
        start_limit: float,
    ) -> None:
        """`backend` makes one; it is called in several threads. A call is made `attempts` times at most. The
        limits are seconds, those of `AbstractWorkerBackend.call`."""
        check(workers >= 1, "workers", workers, "1 or more")
        check(attempts >= 1, "attempts", attempts, "1 or more")
        check(time_limit > 0, "time_limit", time_limit, "above 0")
        check(start_limit > 0, "start_limit", start_limit, "above 0")
        self._backend, self._count, self._attempts = backend, workers, attempts
        self._limits = {"time_limit": time_limit, "start_limit": start_limit}
        self.timeline = Timeline()
        """The record of all calls, which is empty until it is started."""
        self.timeline.workers = workers
        self._first = 0
        self._lock = threading.RLock()
        self._pool: _Pool | None = None
        self._end: Callable[[], Any] = lambda: None

    def submit(self, function: Callable[..., Any], *arguments: Any, about: str = "") -> Future[Any]:
        """Calls `function(made, *arguments)` in a worker, where `made` is the object that its factory made.

        The function must be found by its name in a module that workers can import. The future holds its
        result, or its exception, whose cause is the traceback in the worker. It holds a `UserError`, which
        begins with `about`, if the call was lost in every attempt or cannot be sent, and `CancelledError` if
        the workers were closed first. A future that is cancelled before a worker takes its call costs
        nothing.
        """
        about = about or f"A call of {name_of(function)}"
        try:
            message = packed((function, arguments), about)
        except UserError as error:
            future: Future[Any] = Future()
            future.set_exception(error)
            return future
        with self._lock:
            if self._pool is None:
                self._pool = _Pool(self._backend, self._count, self._first)
                self._end = weakref.finalize(self, self._pool.close)
                # The interpreter waits for the threads of every executor before it exits, and they would wait
                # for a process that hangs. The executors' own module uses this hook, which is not public.
                getattr(threading, "_register_atexit", lambda _: None)(self._end)
            # A bound method, so that the workers are not collected, and so closed, while the call waits.
            job = self.timeline.submitted()
            future = self._pool.threads.submit(self._answer, self._pool, message, about, job)
            self.timeline.add(future, job)
            return future

    @property
    def have_started(self) -> bool:
        """Whether there are workers, which the first call starts."""
        return self._pool is not None

    def close(self) -> None:
        """Ends the workers at once. Calls that wait or are under way are given up; later calls start new
        workers."""
        with self._lock:
            end, self._pool = self._end, None
        end()

    def split(self) -> tuple["Workers", ...]:
        """As many pools of one worker each, for functions that keep something in their worker. They have one
        timeline."""
        options: dict[str, Any] = {"workers": 1, "attempts": self._attempts, **self._limits}
        pools = tuple(Workers(self._backend, **options) for _ in range(self._count))
        for i, pool in enumerate(pools):
            pool.timeline, pool._first = self.timeline, i
        return pools

    def _answer(self, pool: "_Pool", message: bytes, about: str, job: Job | None) -> Any:
        lost: list[tuple[bool, str]] = []  # not the errors: their tracebacks refer to this frame
        if job is not None:
            job.worker, job.started = pool.number(), time.monotonic()
        while len(lost) < self._attempts:
            backend = pool.backend()
            try:
                answered = backend.call(message, **self._limits)
            except LostError as error:
                lost.append((error.started, str(error)))
                pool.discard(backend)
            else:
                if job is not None:
                    job.end(backend.waiting_since)
                return unpacked(answered)
        if pool.closed:
            raise CancelledError(_CLOSED)
        raise UserError(_failure(about, lost))


class _Pool:
    """The workers between one start and one `close`: threads of an executor, each with a backend."""

    def __init__(self, make: Callable[[], AbstractWorkerBackend], count: int, first: int) -> None:
        """Threads are numbered from `first` on."""
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="surefoot-worker")
        self.closed = False
        self._make, self._own, self._numbers = make, threading.local(), itertools.count(first)
        # Reentrant: the garbage collector may close the pool, anywhere in a worker.
        self._lock = threading.RLock()
        self._backends: set[AbstractWorkerBackend] = set()

    def backend(self) -> AbstractWorkerBackend:
        """The backend of the calling thread, started if there is none."""
        with self._lock:
            if self.closed:
                raise CancelledError(_CLOSED)
            if getattr(self._own, "backend", None) is None:
                self._own.backend = self._make()
                self._backends.add(self._own.backend)
            return self._own.backend

    def number(self) -> int:
        """The number of the calling thread."""
        if not hasattr(self._own, "number"):
            self._own.number = next(self._numbers)
        return self._own.number

    def discard(self, backend: AbstractWorkerBackend) -> None:
        """Lets the calling thread start another backend."""
        with self._lock:
            self._backends.discard(backend)
            self._own.backend = None

    def close(self) -> None:
        """Ends everything before it waits for anything, so that an interrupted wait leaves nothing behind."""
        self.closed = True
        self.threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            backends = list(self._backends)
        for backend in backends:
            backend.close()
        for backend in backends:
            backend.wait()
        # A worker may drop the last reference to the pool, and cannot wait for itself.
        self.threads.shutdown(wait=not hasattr(self._own, "backend"))


_CLOSED = "The workers were closed."


def _failure(about: str, lost: list[tuple[bool, str]]) -> str:
    attempts, (_, reason) = "1 attempt" if len(lost) == 1 else f"{len(lost)} attempts", lost[-1]
    if not any(started for started, _ in lost):
        return f"{about} failed: the worker process failed to start ({attempts}). It {reason}."
    return (
        f"{about} failed ({attempts}): the worker process {reason}. If a task takes long, raise "
        "--sampler.time-limit; if the machine is short of memory, lower --sampler.workers; otherwise look "
        "for the fault in the environment, by sampling in one process: --sampler in-process."
    )
