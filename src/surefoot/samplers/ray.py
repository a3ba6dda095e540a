"""The Ray sampler: tasks are played on the machines of a Ray cluster (Moritz et al., 2018)."""

import threading
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from surefoot.envs.base import AbstractFamily
from surefoot.options import check
from surefoot.samplers.ray_backend import RayBackend, library
from surefoot.samplers.remote import AbstractRemoteSampler, setup
from surefoot.samplers.worker_backends import AbstractWorkerBackend
from surefoot.samplers.worker_main import settings
from surefoot.samplers.workers import Workers


class RaySampler(AbstractRemoteSampler):
    """As `ProcessSampler`, with processes on the machines of a Ray cluster, on which surefoot must be
    installed, and the user's own modules too.

    `address` is the cluster's, as `ray.init` takes it ("auto" for the one that this machine belongs to). If
    it is None, a cluster on this machine alone is started, and ended by `close`; one that this process is
    connected to already is used as it is. `workers` is how many tasks are played at once: each needs a core
    of the cluster, and waits for one as long as it takes. A task that hangs, or is lost with its machine or
    its process, is played again elsewhere with the same key.
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
        backend = partial(RayBackend, setup(env), settings(), time_limit, start_limit)
        self.workers = Workers(partial(self._connection.open_to, backend), workers=workers, attempts=attempts)

    def close(self) -> None:
        """Ends what was started: a cluster that was there before stays."""
        self.close_workers()
        self._connection.close()


class _Connection:
    """To the cluster, when it is first needed."""

    def __init__(self, address: str | None, cores: int) -> None:
        self._address, self._cores = address, cores
        self._lock = threading.Lock()
        self._end: weakref.finalize | None = None
        library()

    def open_to(self, backend: Callable[[], AbstractWorkerBackend]) -> AbstractWorkerBackend:
        """A backend, once there is a connection. Not for the main thread, in which Ray takes over SIGTERM."""
        ray = library()
        with self._lock:
            if not ray.is_initialized():
                self._start(ray)
                self._end = weakref.finalize(self, ray.shutdown)
        return backend()

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
