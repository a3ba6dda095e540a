"""Where workers do their work: one call after another, each in another process."""

import multiprocessing
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from surefoot.samplers.worker_main import Settings, serve

_SPAWN = multiprocessing.get_context("spawn")  # JAX does not survive a fork


class LostError(Exception):
    """A call came to nothing through no fault of its own code: its process died, or took too long. The
    message goes on from "the call": "died …"."""


class AbstractWorkerBackend(ABC):
    """A place where calls are carried out, one at a time."""

    @abstractmethod
    def call(self, message: bytes) -> bytes:
        """The answer to a packed call. Raises `LostError`, after which the backend is of no more use."""

    @abstractmethod
    def close(self) -> None:
        """At once, from any thread. A call in progress raises `LostError`."""

    def wait(self) -> None:  # noqa: B027 (most leave nothing)
        """After `close`: until nothing is left."""


class ProcessBackend(AbstractWorkerBackend):
    """A new process of this machine, which ends with this one."""

    def __init__(self, setup: bytes, settings: Settings, time_limit: float, start_limit: float) -> None:
        """A call may take `time_limit` seconds; the first may take `start_limit` more, for the process to
        start, to make what it works with, and to compile."""
        self._connection, there = _SPAWN.Pipe()
        arguments = there, setup, settings
        self._process = _SPAWN.Process(target=serve, args=arguments, name="surefoot-worker", daemon=True)
        with _interrupts_blocked():
            self._process.start()
        there.close()
        self._time_limit, self._start_limit = time_limit, start_limit
        self._ready = self._expired = False

    def call(self, message: bytes) -> bytes:
        limit = self._time_limit if self._ready else self._time_limit + self._start_limit
        watch = threading.Timer(limit, self._expire)
        watch.daemon = True
        watch.start()
        try:
            return self._exchange(message)
        except (EOFError, OSError):
            raise LostError(self._end(limit)) from None
        finally:
            watch.cancel()
            watch.join()

    def close(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        self._process.join()

    def _exchange(self, message: bytes) -> bytes:
        if not self._ready:
            self._connection.recv_bytes()
            self._ready = True
        self._connection.send_bytes(message)
        return self._connection.recv_bytes()

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _end(self, limit: float) -> str:
        """What became of the process, which is gone or about to go."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        if self._expired:
            return f"took longer than {limit:g} seconds, and its process was ended"
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"was lost, for its process {how}{'' if self._ready else _BEFORE_IT_WAS_READY}"


_BEFORE_IT_WAS_READY = (
    " before it was ready (what it printed says why; a script must start its work under "
    "`if __name__ == '__main__':`, since workers import it)"
)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C must not end a process while it starts, before it has said that it leaves that to its parent;
    the mask is inherited."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
