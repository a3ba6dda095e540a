"""Options of samplers: where and how episodes are sampled."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

from surefoot.envs.base import AbstractFamily
from surefoot.options import Options, Positive, Workers, at_least
from surefoot.samplers.base import AbstractCollector, AbstractSampler
from surefoot.samplers.batched import BatchedSampler, BatchedStreams
from surefoot.samplers.processes import ProcessSampler
from surefoot.samplers.ray import RaySampler
from surefoot.samplers.remote import AbstractRemoteSampler
from surefoot.samplers.remote_streams import RemoteStreams
from surefoot.samplers.scan import ScanSampler, StreamSampler


class SamplerOptions(ABC):
    """An immutable dataclass of options that makes a sampler for a family."""

    @abstractmethod
    def of_episodes(self, env: AbstractFamily, episodes: int) -> AbstractSampler:
        """A sampler of `episodes` whole episodes of each task."""

    @abstractmethod
    def of_streams(self, env: AbstractFamily, streams: int, steps: int) -> AbstractCollector:
        """A collector of `streams` parallel environments, `steps` steps of each in a batch. Raises
        `UserError` if there is none."""


@dataclass(frozen=True)
class InProcess(SamplerOptions, Options):
    """Sample in this process: compiled into the iteration where the environment is written in JAX, otherwise
    all environments together, which for MuJoCo is the speed of the physics."""

    threads: Annotated[int, Workers] = 0
    """Number of threads of the physics; 0 for one for each core. Results do not depend on it."""

    def of_episodes(self, env: AbstractFamily, episodes: int) -> AbstractSampler:
        if env.is_traceable:
            return ScanSampler(env, episodes)
        return BatchedSampler(env, episodes, self.threads or cores())

    def of_streams(self, env: AbstractFamily, streams: int, steps: int) -> AbstractCollector:
        if env.is_traceable:
            return StreamSampler(env, streams, steps)
        return BatchedStreams(env, streams, steps, self.threads or cores())


@dataclass(frozen=True)
class AbstractRemote(SamplerOptions, Options):
    """Sample in other processes: each samples one task at a time, and no task waits for another. Streams are
    divided among them."""

    sampler: ClassVar[type[AbstractRemoteSampler]]
    workers: Annotated[int, Workers] = 0
    """Number of tasks sampled at once, on a core each; 0 for the number of this machine's cores. Results do
    not depend on it, but those of A3C, whose workers each compute gradients."""
    time_limit: Annotated[float, Positive] = 600.0
    """Seconds after which a worker that still samples one task counts as hung and is replaced."""
    attempts: Annotated[int, at_least(1)] = 3
    """Number of times a task is sampled before losing its worker is an error: a worker that died or hung is
    replaced, and the task is sampled again with the same key."""

    def of_streams(self, env: AbstractFamily, streams: int, steps: int) -> AbstractCollector:
        return RemoteStreams(self.of_episodes(env, 1), streams, steps)

    def of_episodes(self, env: AbstractFamily, episodes: int) -> AbstractRemoteSampler:
        return self.sampler(env, episodes, **{**vars(self), "workers": self.workers or cores()})


@dataclass(frozen=True)
class Processes(AbstractRemote):
    """Sample in worker processes of this machine, for environments that keep a core busy."""

    sampler = ProcessSampler


@dataclass(frozen=True)
class Ray(AbstractRemote):
    """Sample in processes on the machines of a Ray cluster. Needs `pip install 'surefoot[ray]'`."""

    address: str | None = None
    """Address of the cluster, as `ray.init` takes it; "auto" for the one that this machine belongs to. None
    for a cluster on this machine, which ends with the run."""

    sampler = RaySampler


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
