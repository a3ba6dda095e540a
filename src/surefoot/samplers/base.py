"""The contract of a sampler."""

from abc import ABC, abstractmethod
from concurrent.futures import Future

from jaxtyping import PyTree

from surefoot.envs.base import AbstractEnv
from surefoot.policies.base import AbstractPolicy
from surefoot.types import Key, Rollout, Task


class AbstractCollector(ABC):
    """Draws data of one task, batch after batch.

    What it draws depends on its arguments alone: not on the order of calls, on what else is sampled, or on
    how many workers there are.
    """

    env: AbstractEnv

    @abstractmethod
    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> PyTree:
        """Where the first batch begins: arrays, or None where every batch begins anew."""

    @abstractmethod
    def collect(self, policy: AbstractPolicy, task: Task, where: PyTree, key: Key) -> tuple[PyTree, Rollout]:
        """The next batch, axes `[episode time ...]`, and where the one after it begins."""


class AbstractSampler(AbstractCollector):
    """Draws a fixed number of whole episodes of a task with a policy."""

    episodes: int
    """Episodes of each task; every one is played to its end or to the horizon."""

    @abstractmethod
    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """Starts sampling one task; the future holds its rollout, axes `[episode time ...]`, or the
        exception."""

    @abstractmethod
    def sample(self, policies: AbstractPolicy, tasks: Task, key: Key) -> Rollout:
        """Many tasks, each with its own policy: `policies` and `tasks` have a leading task axis, and so has
        the result.

        Task i is what `submit` gives for its policy, its task and `fold_in(key, i)`.
        """
