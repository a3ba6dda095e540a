"""Workers: calls wait in one queue, and each worker takes the next as soon as it is free.

A worker is a thread here, which hands calls to its *station*, a process elsewhere, and waits for the answer.
A station that is lost is replaced, and its call made again: calls whose results depend on their arguments
alone come out as if nothing had happened.
"""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple

from surefoot.options import UserError, check
from surefoot.samplers.messages import packed, unpacked
from surefoot.samplers.stations import AbstractStation, LostError


class Workers:
    """A fixed number of workers. They start when they are first needed, and end with `close`, when nothing
    refers to them any more, or with this process, whatever they are doing then."""

    def __init__(self, station: Callable[[], AbstractStation], *, workers: int, attempts: int) -> None:
        """`station` makes one; it is called in several threads."""
        check(workers >= 1, "workers", workers, "1 or more")
        check(attempts >= 1, "attempts", attempts, "1 or more")
        self._station, self._count, self._attempts = station, workers, attempts
        self._lock = threading.RLock()
        self._end: weakref.finalize | None = None
        self._crew: _Crew | None = None

    def submit(self, function: Callable[..., Any], *arguments: Any, about: str = "") -> Future[Any]:
        """Calls `function(made, *arguments)` in a worker, where `made` is what the station was set up with.

        The function must be found by its name in a module that workers can import. The future holds its
        result, or its exception, whose cause is its traceback there; or a `UserError` that says what happened
        to `about` if it was lost in every attempt, or if something in it cannot be sent; or `CancelledError`
        if the workers were closed first. A future that is cancelled before a worker takes its call costs
        nothing.
        """
        future: Future[Any] = Future()
        about = about or f"A call of {function.__name__}"
        try:
            message = packed((function, arguments), about)
        except UserError as error:
            future.set_exception(error)
            return future
        with self._lock:
            self._opened().calls.put(_Call(message, future, about, self))
        return future

    def close(self) -> None:
        """At once. Calls that wait or are under way are given up; later ones begin with new workers."""
        with self._lock:
            end, self._crew = self._end, None
        if end is not None:
            end()

    def _opened(self) -> "_Crew":
        if self._crew is None:
            self._crew = _Crew(self._station, self._count, self._attempts)
            self._end = weakref.finalize(self, self._crew.close)
        return self._crew


class _Call(NamedTuple):
    message: bytes
    future: Future[Any]
    about: str
    owner: Workers
    """Is not to be collected, and so closed, while a call waits."""


class _Crew:
    """The workers between one opening and one closing."""

    def __init__(self, station: Callable[[], AbstractStation], count: int, attempts: int) -> None:
        self.calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._workers = [_Worker(self.calls, station, attempts) for _ in range(count)]
        run = [worker.run for worker in self._workers]
        self._threads = [threading.Thread(target=x, name="surefoot-worker", daemon=True) for x in run]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._give_up_waiting()
        for worker in self._workers:
            self.calls.put(None)
            worker.close()
        for thread in self._threads:
            # The last reference to the workers may be dropped in one of their own threads.
            if thread is not threading.current_thread():
                thread.join()

    def _give_up_waiting(self) -> None:
        while True:
            try:
                call = self.calls.get_nowait()
            except queue.Empty:
                return
            if call is not None and call.future.cancel():
                call.future.set_running_or_notify_cancel()


class _Worker:
    """One thread's work, and the station that now serves it."""

    def __init__(
        self, calls: "queue.SimpleQueue[_Call | None]", make: Callable[[], AbstractStation], attempts: int
    ) -> None:
        self._calls, self._make, self._attempts = calls, make, attempts
        # Reentrant: what closes a worker may be run by the garbage collector, anywhere in this thread.
        self._lock = threading.RLock()
        self._station: AbstractStation | None = None
        self._closed = False

    def run(self) -> None:
        while (call := self._calls.get()) is not None:
            if call.future.set_running_or_notify_cancel():
                self._settle(call)
            del call  # waiting for the next must keep nothing of this one alive
        self.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._station is not None:
                self._station.close()

    def _settle(self, call: _Call) -> None:
        try:
            result = unpacked(self._answer(call))
        except BaseException as error:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)

    def _answer(self, call: _Call) -> bytes:
        lost: list[str] = []
        while len(lost) < self._attempts:
            try:
                return self._at_work().call(call.message)
            except LostError as error:
                lost.append(str(error))
                self._leave()
        if self._closed:
            raise CancelledError("The workers were closed.")
        raise UserError(_lost(call.about, lost))

    def _at_work(self) -> AbstractStation:
        with self._lock:
            if self._closed:
                raise CancelledError("The workers were closed.")
            if self._station is None:
                self._station = self._make()
            return self._station

    def _leave(self) -> None:
        with self._lock:
            self._station = None


def _lost(about: str, reasons: list[str]) -> str:
    times = "once" if len(reasons) == 1 else f"{len(reasons)} times"
    return (
        f"{about} was tried {times} and is given up. The last time it {reasons[-1]}. If it takes long by "
        "nature, raise the time limit; if the machine is short of memory, use fewer workers; otherwise the "
        "environment is at fault: play the same in one process, with --sampler in-process."
    )
