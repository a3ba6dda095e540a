"""The Ray sampler: tasks are played on the machines of a Ray cluster (Moritz et al., 2018)."""

import importlib
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

from surefoot.envs.base import AbstractFamily
from surefoot.options import UserError, check
from surefoot.samplers.away import AbstractAwaySampler, setup
from surefoot.samplers.messages import answer
from surefoot.samplers.serving import Settings, once, prepare, settings
from surefoot.samplers.stations import AbstractStation, LostError
from surefoot.samplers.workers import Workers

_KEPT = 2
"""Environments whose simulators a process keeps."""


class RaySampler(AbstractAwaySampler):
    """As `ProcessSampler`, with processes on the machines of a Ray cluster, on which surefoot must be
    installed, and the user's own modules too.

    `address` is the cluster's, as `ray.init` takes it ("auto" for the one that this machine belongs to). If
    it is None, a cluster on this machine alone is started, and ended by `close`; one that this process is
    connected to already is used as it is. `workers` is how many tasks are played at once: each needs a core
    of the cluster, and waits for one as long as it takes. A task whose machine, process or patience is lost
    is played again elsewhere with the same key.
    """

    def __init__(
        self,
        env: AbstractFamily,
        episodes: int,
        *,
        workers: int,
        time_limit: float,
        attempts: int,
        address: str | None = None,
        start_limit: float = 120.0,
    ) -> None:
        check(episodes >= 1, "episodes", episodes, "1 or more")
        check(time_limit > 0, "time_limit", time_limit, "above 0")
        check(start_limit > 0, "start_limit", start_limit, "above 0")
        self.env, self.episodes = env, episodes
        self._connection = _Connection(address, workers)
        station = partial(RayStation, self._connection, setup(env), settings(), time_limit, start_limit)
        self.workers = Workers(station, workers=workers, attempts=attempts)

    def close(self) -> None:
        """Ends what was started: a cluster that was there before stays."""
        self.workers.close()
        self._connection.close()


class _Connection:
    """To the cluster, when it is first needed."""

    def __init__(self, address: str | None, cores: int) -> None:
        self._address, self._cores = address, cores
        self._lock = threading.Lock()
        self._end: weakref.finalize | None = None
        library()

    def open(self) -> Any:
        """Ray, connected. Not to be called in the main thread, where Ray would take over SIGTERM."""
        ray = library()
        with self._lock:
            if not ray.is_initialized():
                self._start(ray)
                self._end = weakref.finalize(self, ray.shutdown)
        return ray

    def _start(self, ray: Any) -> None:
        alone = {"num_cpus": self._cores, "include_dashboard": False}
        options = {"log_to_driver": False, "logging_level": "error", **({} if self._address else alone)}
        with warnings.catch_warnings():
            # Ray forks only to start other programs, which does JAX no harm.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            # "local" for a new cluster even where RAY_ADDRESS names another.
            ray.init(self._address or "local", **options)

    def close(self) -> None:
        with self._lock:
            if self._end is not None:
                self._end()
                self._end = None


class RayStation(AbstractStation):
    """A process of the cluster, whichever is free at each call."""

    def __init__(
        self,
        connection: _Connection,
        setup: bytes,
        settings: Settings,
        time_limit: float,
        start_limit: float,
    ) -> None:
        """A call may take `time_limit` seconds once it has begun, and the first of a process `start_limit`
        more, to compile; waiting for a core does not count."""
        self._ray = connection.open()
        self._given = setup, settings
        self._time_limit, self._start_limit = time_limit, start_limit
        self._lock = threading.RLock()
        self._running: Any = None
        self._closed = False

    def call(self, message: bytes) -> bytes:
        ray = self._ray
        answers = self._begin(message)
        try:
            first = ray.get(next(answers))
            limit = self._time_limit + (self._start_limit if first else 0)
            if not ray.wait([answers], timeout=limit)[0]:
                raise LostError(f"took longer than {limit:g} seconds, and its process was ended")
            return ray.get(next(answers))
        except (ray.exceptions.RayError, StopIteration) as error:
            raise LostError(f"was lost by Ray: {type(error).__name__}: {_first_line(error)}") from None
        finally:
            self._finish()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._finish()

    def _begin(self, message: bytes) -> Any:
        with self._lock:
            if self._closed:
                raise LostError("was begun after the end")
            self._running = _remote().remote(*self._given, message)
            return self._running

    def _finish(self) -> None:
        """Whatever is still under way is ended, with its process."""
        with self._lock:
            if self._running is not None:
                self._ray.cancel(self._running, force=True)
                self._running = None


def serve(setup: bytes, settings: Settings, message: bytes) -> Iterator[Any]:
    """In a process of the cluster: first whether it is the first call of its kind there, then the answer."""
    known = _maker.cache_info().misses
    make = _maker(setup, tuple(settings.items()))
    yield _maker.cache_info().misses > known
    yield answer(make, message)


@lru_cache(maxsize=_KEPT)
def _maker(setup: bytes, settings: tuple[tuple[str, Any], ...]) -> Any:
    prepare(dict(settings))
    return once(setup)


@lru_cache
def _remote() -> Any:
    # What is lost is called again by the workers, who count; Ray must not try by itself as well.
    return library().remote(num_cpus=1, max_retries=0, num_returns="streaming")(serve)


@lru_cache
def library() -> Any:
    """Ray's module. Raises `UserError` where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UserError(
            f"This sampler needs Ray, and importing it failed: {error}. "
            "Install it: pip install 'surefoot[ray]'."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")
