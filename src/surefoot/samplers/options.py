"""Where episodes are played: what a user chooses, and the sampler that follows from it and the family."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass

from surefoot.envs.base import AbstractEnv, AbstractFamily
from surefoot.options import UserError, check
from surefoot.samplers.base import AbstractCollector, AbstractSampler
from surefoot.samplers.batched import BatchedSampler, BatchedStreams
from surefoot.samplers.processes import ProcessSampler
from surefoot.samplers.ray import RaySampler
from surefoot.samplers.scan import ScanSampler
from surefoot.samplers.stream import StreamSampler


class SamplerOptions(ABC):
    """An immutable dataclass of options that makes a sampler for a family."""

    @abstractmethod
    def of_episodes(self, env: AbstractFamily, episodes: int) -> AbstractSampler:
        """A sampler of so many whole episodes of each task."""

    @abstractmethod
    def of_streams(self, env: AbstractFamily, streams: int, steps: int) -> AbstractCollector:
        """One of so many streams, of so many steps a batch. Raises `UserError` if it cannot."""


@dataclass(frozen=True)
class InProcess(SamplerOptions):
    """In this process: compiled into the iteration where the environment is written in JAX, otherwise all
    environments in step, which for MuJoCo is the speed of the physics."""

    threads: int = 0
    """Threads of the physics; 0 for one for each core. Results do not depend on it."""

    def __post_init__(self) -> None:
        check(self.threads >= 0, "threads", self.threads, "0 or more")

    def of_episodes(self, env: AbstractFamily, episodes: int) -> AbstractSampler:
        if isinstance(env, AbstractEnv):
            return ScanSampler(env, episodes)
        return BatchedSampler(env, episodes, self.threads or cores())

    def of_streams(self, env: AbstractFamily, streams: int, steps: int) -> AbstractCollector:
        if isinstance(env, AbstractEnv):
            return StreamSampler(env, streams, steps)
        return BatchedStreams(env, streams, steps, self.threads or cores())


@dataclass(frozen=True)
class AbstractRemote(SamplerOptions):
    """In other processes: each plays one task at a time, and no task waits for another."""

    workers: int = 0
    """Tasks that are played at once, on a core each; 0 for as many as this machine has cores. Results do not
    depend on it."""
    time_limit: float = 600.0
    """Seconds after which a worker that still plays one task counts as hung, and is replaced."""
    attempts: int = 3
    """How often a task is played before its failures are an error: workers that died or hung are replaced,
    and the task is played again with the same key."""

    def __post_init__(self) -> None:
        check(self.workers >= 0, "workers", self.workers, "0 or more")
        check(self.time_limit > 0, "time_limit", self.time_limit, "above 0")
        check(self.attempts >= 1, "attempts", self.attempts, "1 or more")

    def of_streams(self, env: AbstractFamily, streams: int, steps: int) -> AbstractCollector:
        del env, streams, steps
        raise UserError(
            "Streams go on from one batch to the next, and workers play whole episodes; set --streams 0, or "
            "--sampler in-process."
        )


@dataclass(frozen=True)
class Processes(AbstractRemote):
    """In worker processes of this machine, for environments that keep a core busy."""

    def of_episodes(self, env: AbstractFamily, episodes: int) -> AbstractSampler:
        workers = self.workers or cores()
        return ProcessSampler(
            env, episodes, workers=workers, time_limit=self.time_limit, attempts=self.attempts
        )


@dataclass(frozen=True)
class Ray(AbstractRemote):
    """In processes on the machines of a Ray cluster. Needs the extra: `pip install 'surefoot[ray]'`."""

    address: str | None = None
    """The cluster's, as `ray.init` takes it; "auto" for the one that this machine belongs to. None for a
    cluster on this machine alone, which ends with the run."""

    def of_episodes(self, env: AbstractFamily, episodes: int) -> AbstractSampler:
        return RaySampler(
            env,
            episodes,
            workers=self.workers or cores(),
            time_limit=self.time_limit,
            attempts=self.attempts,
            address=self.address,
        )


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
