"""Where tasks are played in a Ray cluster: the backend, and what runs on the cluster's machines."""

import importlib
import inspect
import os
from collections.abc import Iterator
from functools import lru_cache
from threading import RLock
from typing import Any

from surefoot.options import UserError
from surefoot.samplers.messages import answer
from surefoot.samplers.worker_backends import AbstractWorkerBackend, LostError
from surefoot.samplers.worker_main import Settings, once, prepare

_KEPT = 2
"""Environments whose simulators a process keeps."""


class RayBackend(AbstractWorkerBackend):
    """A process of the cluster that this process is connected to, whichever is free at each call."""

    def __init__(
        self,
        setup: bytes,
        settings: Settings,
        time_limit: float,
        start_limit: float,
    ) -> None:
        """A call may take `time_limit` seconds once it has begun, and the first of a process `start_limit`
        more, to compile; waiting for a core does not count."""
        self._ray = library()
        self._given = setup, settings
        self._time_limit, self._start_limit = time_limit, start_limit
        self._lock = RLock()
        self._running: Any = None
        self._closed = False

    def call(self, message: bytes) -> bytes:
        answers = self._begin(message)
        try:
            answered = self._wait(answers)
        except (self._ray.exceptions.RayError, StopIteration) as error:
            raise LostError(f"was lost by Ray: {type(error).__name__}: {_first_line(error)}") from None
        finally:
            self._end()
        return answered

    def _wait(self, answers: Any) -> bytes:
        """The second of the two answers, within its time from the first."""
        first = self._ray.get(next(answers))
        limit = self._time_limit + (self._start_limit if first else 0)
        if not self._ray.wait([answers], timeout=limit)[0]:
            raise LostError(f"took longer than {limit:g} seconds, and its process was ended")
        answered = self._ray.get(next(answers))
        # It has nothing more to do: to end it now would cost the process, and all that it has compiled.
        self._running = None
        return answered

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._end()

    def _begin(self, message: bytes) -> Any:
        with self._lock:
            if self._closed:
                raise LostError("was begun after the end")
            self._running = _remote().remote(*self._given, message)
            return self._running

    def _end(self) -> None:
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
    # Ray must see that it is a generator, through whatever decorates it.
    return library().remote(num_cpus=1, max_retries=0)(inspect.unwrap(serve))


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
