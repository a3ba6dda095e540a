"""The process sampler: tasks are played in worker processes of this machine."""

from functools import partial

from surefoot.envs.base import AbstractFamily
from surefoot.options import check
from surefoot.samplers.remote import AbstractRemoteSampler, setup
from surefoot.samplers.worker_backends import ProcessBackend
from surefoot.samplers.worker_main import settings
from surefoot.samplers.workers import Workers


class ProcessSampler(AbstractRemoteSampler):
    """Each worker process plays one task at a time, with a simulator of its own, and no task waits for
    another. For environments that keep a core busy; they may be of any kind.

    A worker that dies, or plays a task for longer than `time_limit` seconds, is replaced, and its task played
    again with the same key, `attempts` times in all: rollouts do not depend on it, nor on the number of
    workers. The first task of every worker has `start_limit` seconds more, in which the worker starts and
    compiles; what is compiled later counts as playing.
    """

    def __init__(
        self,
        env: AbstractFamily,
        episodes: int,
        *,
        workers: int,
        time_limit: float,
        attempts: int,
        start_limit: float = 120.0,
    ) -> None:
        check(episodes >= 1, "episodes", episodes, "1 or more")
        check(time_limit > 0, "time_limit", time_limit, "above 0")
        check(start_limit > 0, "start_limit", start_limit, "above 0")
        self.env, self.episodes = env, episodes
        backend = partial(ProcessBackend, setup(env), settings(), time_limit, start_limit)
        self.workers = Workers(backend, workers=workers, attempts=attempts)

    def close(self) -> None:
        self.close_workers()
