"""The Ray sampler: tasks are sampled on the machines of a Ray cluster (Moritz et al., 2018)."""

import importlib
import inspect
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any

from surefoot.envs.base import AbstractFamily
from surefoot.options import UserError, first_line, import_extra
from surefoot.samplers.messages import READY, answers, awaited
from surefoot.samplers.remote import AbstractRemoteSampler, WorkerSetup
from surefoot.samplers.workers import AbstractWorkerBackend, LostError


class RaySampler(AbstractRemoteSampler):
    """A sampler like `ProcessSampler`, with processes on the machines of a Ray cluster, on which surefoot and
    the user's own modules must be installed.

    `address` is the cluster's, as `ray.init` takes it ("auto" for the one that this machine belongs to). If
    it is None, a cluster on this machine is started, which no other machine reaches, and `close` ends it; a
    connection that this process already has is used as it is. `workers` is the number of tasks that are
    sampled at once: each needs a core of the cluster, and the time in which it waits for one does not count.
    A task that hangs, or is lost with its machine or its process, is sampled again elsewhere with the same
    key. Raises `UserError` if an option is out of bounds, the environment cannot be sent or Ray is not
    installed.
    """

    keeps_workers = False

    def __init__(
        self, env: AbstractFamily, episodes: int, *, workers: int, address: str | None = None, **limits: Any
    ) -> None:
        self._connection = Connection(address, workers)
        super().__init__(env, episodes, workers=workers, **limits)

    def backend(self) -> Callable[[WorkerSetup], AbstractWorkerBackend]:
        return partial(RayBackend, self._connection.open)

    def close(self) -> None:
        """Ends the workers, and a cluster that was started for them."""
        super().close()
        self._connection.close()


class Connection:
    """The connection to a cluster, opened when it is first needed."""

    def __init__(self, address: str | None, cores: int) -> None:
        address = address or None  # a variable of the shell may be set and empty
        new_cluster = {"num_cpus": cores, "include_dashboard": False}
        self._options = {"log_to_driver": False, "logging_level": "error", **({} if address else new_cluster)}
        self._starts = address is None
        # "local" for a new cluster even where RAY_ADDRESS names another.
        self._address = address or "local"
        self._lock = threading.Lock()
        self._end: Callable[[], Any] = lambda: None
        library()

    def open(self) -> Any:
        """Ray's module, connected. Not for the main thread, in which Ray takes over SIGTERM."""
        ray = library()
        with self._lock:
            if not ray.is_initialized():
                with warnings.catch_warnings(), _on_loopback() if self._starts else nullcontext():
                    # Ray forks only to start other programs, which does JAX no harm.
                    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                    try:
                        ray.init(self._address, **self._options)
                    except (OSError, RuntimeError, ValueError) as error:
                        why = first_line(str(error))
                        raise UserError(
                            f"No Ray cluster is reached at {self._address!r}: {why}. Start one there, name "
                            "another address, or none for a cluster on this machine."
                        ) from error
                self._end = weakref.finalize(self, ray.shutdown)
        return ray

    def close(self) -> None:
        with self._lock:
            self._end()


_OTHER_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Makes a cluster that is started meanwhile listen on the loopback interface alone.

    By default Ray listens on every interface of a Linux machine, and whoever reaches it may run any program;
    `_node_ip_address="127.0.0.1"` is ignored. It gives up other machines where this variable says so, which
    is meant for Windows and macOS. Ray has read it when it was imported, and its processes read it again.
    """
    constants: Any = importlib.import_module("ray._private.ray_constants")
    before = os.environ.get(_OTHER_MACHINES), getattr(constants, "ENABLE_RAY_CLUSTER", None)
    os.environ[_OTHER_MACHINES], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before[1]
        del os.environ[_OTHER_MACHINES]
        if before[0] is not None:
            os.environ[_OTHER_MACHINES] = before[0]


class RayBackend(AbstractWorkerBackend):
    """A process of the cluster, whichever is free at each call. Waiting for a core does not count against the
    limits. A process has `start_limit` seconds to make its simulator and compile."""

    def __init__(self, connect: Callable[[], Any], setup: WorkerSetup) -> None:
        self._ray, self._setup = connect(), setup
        self._lock = threading.RLock()
        self._running: Any = None
        self._closed = False

    def call(self, message: bytes, time_limit: float, start_limit: float) -> bytes:
        with self._lock:
            if self._closed:
                raise LostError("was called after the end")
            self._running = answers = _remote().remote(self._setup, message)
        started = False
        try:
            self._ray.get(next(answers))  # it has a core
            started = True
            receive = partial(self._receive, answers)
            answered = awaited(receive(time_limit), receive, time_limit, start_limit)
            # Not to be cancelled: that would cost the process, and the programs that it has compiled.
            self._running = None
        except (self._ray.exceptions.RayError, StopIteration) as error:
            why = f"{type(error).__name__}: {first_line(str(error))}"
            raise LostError(f"was lost by Ray: {why}", started=started) from None
        finally:
            self._cancel()
        return answered

    def _receive(self, answers: Any, limit: float) -> bytes:
        self.waiting_since = time.monotonic()
        if not self._ray.wait([answers], timeout=limit)[0]:
            raise LostError(f"took longer than {limit:g} seconds and was killed")
        return self._ray.get(next(answers))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._cancel()

    def _cancel(self) -> None:
        """Ends a call that is under way, with its process."""
        with self._lock:
            if self._running is not None:
                self._ray.cancel(self._running, force=True)
                self._running = None


def serve(setup: WorkerSetup, message: bytes) -> Iterator[Any]:
    """Answers a call in a process of the cluster: first that it has one, then as `answers` does."""
    yield READY
    yield from answers(*_prepared(setup), message)


@lru_cache(maxsize=2)
def _prepared(setup: WorkerSetup) -> tuple[Callable[[], Any], set[Any]]:
    """The factory of a setup, and the forms of its calls so far; a process keeps the simulators of two."""
    return setup.prepare(), set()


@lru_cache
def _remote() -> Any:
    # The pool makes lost calls again, and counts them; Ray must not do so as well. Ray must see that the
    # function is a generator, through whatever decorates it.
    return library().remote(num_cpus=1, max_retries=0)(inspect.unwrap(serve))


@lru_cache
def library() -> Any:
    """Ray's module. Raises `UserError` where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    return import_extra("ray", "This sampler needs Ray", "ray")
