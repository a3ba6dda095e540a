"""Workers: calls wait in an executor, and each worker takes the next as soon as it is free.

A worker is a thread here, which hands calls to its *backend*, a process elsewhere, and waits for the answer.
A backend that is lost is replaced, and its call made again: calls whose results depend on their arguments
alone come out as if nothing had happened.
"""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from surefoot.options import UserError, check
from surefoot.samplers.messages import name_of, packed, unpacked
from surefoot.samplers.worker_backends import AbstractWorkerBackend, LostError


class Workers:
    """A fixed number of workers. They start when they are first needed, and end with `close`, when nothing
    refers to them any more, or with this process, whatever they are doing then."""

    def __init__(self, backend: Callable[[], AbstractWorkerBackend], *, workers: int, attempts: int) -> None:
        """`backend` makes one; it is called in several threads."""
        check(workers >= 1, "workers", workers, "1 or more")
        check(attempts >= 1, "attempts", attempts, "1 or more")
        self._backend, self._count, self._attempts = backend, workers, attempts
        self._lock = threading.RLock()
        self._end: weakref.finalize | None = None
        self._worker_pool: _WorkerPool | None = None

    def submit(self, function: Callable[..., Any], *arguments: Any, about: str = "") -> Future[Any]:
        """Calls `function(made, *arguments)` in a worker, where `made` is what the backend was set up with.

        The function must be found by its name in a module that workers can import. The future holds its
        result, or its exception, whose cause is its traceback there; or a `UserError` that says what happened
        to `about` if it was lost in every attempt, or if something in it cannot be sent; or `CancelledError`
        if the workers were closed first. A future that is cancelled before a worker takes its call costs
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
            return self._opened().submit(message, about, self)

    def close(self) -> None:
        """At once. Calls that wait or are under way are given up; later ones begin with new workers."""
        with self._lock:
            end, self._worker_pool = self._end, None
        if end is not None:
            end()

    def split(self) -> tuple["Workers", ...]:
        """As many workers, each with calls of its own: for functions that keep something in their worker."""
        return tuple(Workers(self._backend, workers=1, attempts=self._attempts) for _ in range(self._count))

    def _opened(self) -> "_WorkerPool":
        if self._worker_pool is None:
            self._worker_pool = _WorkerPool(self._backend, self._count, self._attempts)
            self._end = weakref.finalize(self, self._worker_pool.close)
            _before_threads_are_joined(self._end)
        return self._worker_pool


class _WorkerPool:
    """The workers between one opening and one closing: threads of an executor, each with a backend."""

    def __init__(self, backend: Callable[[], AbstractWorkerBackend], count: int, attempts: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="surefoot-worker")
        self._make, self._attempts = backend, attempts
        self._own = threading.local()
        # Reentrant: what closes the pool may be run by the garbage collector, anywhere in a worker.
        self._lock = threading.RLock()
        self._backends: set[AbstractWorkerBackend] = set()
        self._closed = False

    def submit(self, message: bytes, about: str, owner: Workers) -> Future[Any]:
        """`owner` is not to be collected, and so closed, while the call waits."""
        return self._pool.submit(self._settle, message, about, owner)

    def close(self) -> None:
        """Everything is ended before anything is waited for, so that a wait which is interrupted leaves
        nothing behind."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            backends = list(self._backends)
        for backend in backends:
            backend.close()
        for backend in backends:
            backend.wait()
        # The last reference to the workers may be dropped by one of them, which cannot wait for itself.
        self._pool.shutdown(wait=not hasattr(self._own, "backend"))

    def _settle(self, message: bytes, about: str, owner: Workers) -> Any:
        del owner
        return unpacked(self._answer(message, about))

    def _answer(self, message: bytes, about: str) -> bytes:
        lost: list[str] = []
        while len(lost) < self._attempts:
            backend = self._at_work()
            try:
                return backend.call(message)
            except LostError as error:
                lost.append(str(error))
                self._leave(backend)
        if self._closed:
            raise CancelledError("The workers were closed.")
        raise UserError(_lost(about, lost))

    def _at_work(self) -> AbstractWorkerBackend:
        """This thread's backend."""
        with self._lock:
            if self._closed:
                raise CancelledError("The workers were closed.")
            if getattr(self._own, "backend", None) is None:
                self._own.backend = self._make()
                self._backends.add(self._own.backend)
            return self._own.backend

    def _leave(self, backend: AbstractWorkerBackend) -> None:
        with self._lock:
            self._backends.discard(backend)
            self._own.backend = None


def _lost(about: str, reasons: list[str]) -> str:
    times = "once" if len(reasons) == 1 else f"{len(reasons)} times"
    return (
        f"{about} was tried {times} and is given up. The last time it {reasons[-1]}. If it takes long by "
        "nature, raise the time limit; if the machine is short of memory, use fewer workers; otherwise the "
        "environment is at fault: play the same in one process, with --sampler in-process."
    )


def _before_threads_are_joined(end: Callable[[], Any]) -> None:
    """When the interpreter exits. It then waits for the threads of every executor, which would wait for a
    hung process; the executors' own module uses this hook, which has no public name, for the same end."""
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(end)
