"""The process sampler: tasks are sampled in worker processes of this machine."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from surefoot.samplers.messages import Ended, answers, awaited
from surefoot.samplers.remote import AbstractRemoteSampler, WorkerSetup
from surefoot.samplers.workers import AbstractWorkerBackend, LostError

_SPAWN = multiprocessing.get_context("spawn")  # JAX does not survive a fork


class ProcessSampler(AbstractRemoteSampler):
    """A sampler with worker processes, for environments of any kind that keep a core busy. Each process
    samples one task at a time with its own simulator, and no task waits for another.

    A worker that dies, or takes longer than `time_limit` seconds for a task, is replaced, and its task is
    sampled again with the same key, `attempts` times in all: rollouts depend neither on this nor on the
    number of workers. To start, and to compile for a task of a new form, a worker has `start_limit` seconds
    each, which do not count as the task's. Raises `UserError` if an option is out of bounds or the
    environment cannot be sent.
    """

    def backend(self) -> Callable[[WorkerSetup], AbstractWorkerBackend]:
        return ProcessBackend


class ProcessBackend(AbstractWorkerBackend):
    """A new process of this machine, which ends with this process, and with it the processes that its
    environments have started. It has `start_limit` seconds to start, and again to make its simulator and
    compile.

    It is first asked to end, so that it closes its environments, and is killed if it has not after
    `_GRACE` seconds.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._connection, there = _SPAWN.Pipe()
        arguments = there, setup
        self._process = _SPAWN.Process(target=serve, args=arguments, name="surefoot-worker", daemon=True)
        with _interrupts_blocked():
            self._process.start()
        there.close()
        self._ready = self._reaped = False
        self._expired: float | None = None
        self._waiting = threading.Lock()

    def call(self, message: bytes, time_limit: float, start_limit: float) -> bytes:
        try:
            if not self._ready:
                self._receive(start_limit)
                self._ready = True
            self.waiting_since = time.monotonic()
            with self._within(time_limit):
                self._connection.send_bytes(message)
                first = self._connection.recv_bytes()
            return awaited(first, self._receive, time_limit, start_limit)
        except (EOFError, OSError):
            raise LostError(self._end(), started=self._ready) from None

    def _receive(self, limit: float) -> bytes:
        """The next message. Its process is killed after `limit` seconds."""
        self.waiting_since = time.monotonic()
        with self._within(limit):
            return self._connection.recv_bytes()

    @contextmanager
    def _within(self, limit: float) -> Iterator[None]:
        # Not by `poll`: a process may hang in the middle of a message.
        watch = threading.Timer(limit, self._expire, [limit])
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            watch.join()

    def close(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        with self._waiting:
            if self._reaped:
                return
            multiprocessing.connection.wait([self._process.sentinel], _GRACE)
            assert self._process.pid is not None
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (AttributeError, OSError):  # it has no group, or none yet
                self._process.kill()
            self._process.join()
            self._reaped = True

    def _expire(self, limit: float) -> None:
        self._expired = limit
        self.close()
        self.wait()

    def _end(self) -> str:
        """Reaps the process, and says how it ended."""
        self.wait()
        self._connection.close()
        if self._expired:
            return f"took longer than {self._expired:g} seconds and was killed"
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return how if self._ready else how + _NOT_READY


_GRACE = 2.0
"""Seconds in which a worker that is asked to end may close its environments."""
_NOT_READY = (
    ". Its own output says why; a script must start its work under `if __name__ == '__main__':`, because "
    "workers import it"
)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Blocks SIGINT, so that Ctrl-C does not end a process that starts, before it ignores the signal itself.
    The process inherits the mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(connection: multiprocessing.connection.Connection, setup: WorkerSetup) -> None:
    """Answers calls in the worker process, until the connection is closed or it is asked to end."""
    # Ctrl-C in a terminal reaches every process; the parent decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Environments may start processes. They are in this one's group, and end with it.
    multiprocessing.current_process()._config["daemon"] = False  # pyright: ignore[reportAttributeAccessIssue]
    _end_with_the_parent()
    ended = threading.Event()

    def end(*_: Any) -> None:
        if not ended.is_set():
            ended.set()
            raise Ended

    signal.signal(signal.SIGTERM, end)
    make: Any = None
    try:
        make = setup.prepare()
        connection.send_bytes(b"")  # ready
        known: set[Any] = set()
        # The user's code may catch what ends it, and answers may hold it.
        while not ended.is_set():
            for message in answers(make, known, connection.recv_bytes()):
                connection.send_bytes(message)
    except (Ended, EOFError, OSError):
        pass
    finally:
        ended.set()
        if make is not None and make.cache_info().currsize:
            getattr(make(), "close", lambda: None)()


def _end_with_the_parent() -> None:
    """Arranges that this process ends when its parent does, however that ends, and that the processes which
    it has started end with it.

    A thread of Python would not do: it cannot run while a call holds the interpreter. A shell in the worker's
    own process group waits for the end of the parent, and kills the group.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    if os.name != "posix":
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()
        return
    os.setpgid(0, 0)
    guard = ["/bin/sh", "-c", f"trap '' TERM; read _; kill -s KILL -- -{os.getpid()}"]
    nothing = subprocess.DEVNULL
    _KEPT.append(subprocess.Popen(guard, stdin=int(parent.sentinel), stdout=nothing, stderr=nothing))


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


_KEPT: list[subprocess.Popen[bytes]] = []
"""Objects that must live as long as the process."""
