"""Where episodes are played in this process: a family's simulators, and the threads that they work in."""

from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import UInt32

from surefoot.envs.base import AbstractFamily
from surefoot.envs.simulation import AbstractSimulator
from surefoot.policies.base import AbstractPolicy
from surefoot.samplers.host_rollouts import add_task_axis, rollout_episodes
from surefoot.samplers.record import Record
from surefoot.types import Rollout, Task

_MANY = 8
"""Fewer rows are not divided: what a step costs, however many rows take it, would be paid twice."""
T = TypeVar("T")


class HostRunner:
    """Where a family's simulators leave Python's lock, many rows are played in two halves: each has a
    simulator of its own and half of the threads, and neither waits for the other, so that one half moves
    while the policies of the other are evaluated. When one has ended, the other has all threads.

    What is played does not depend on the threads: one thread alone plays the halves one after the other. A
    runner that never has more than one does better without: `in_halves` off.
    """

    def __init__(self, env: AbstractFamily, threads: int, *, in_halves: bool = True) -> None:
        self.env, self._threads = env, threads
        self._in_halves = in_halves and env.releases_gil

    def sample(
        self, policies: AbstractPolicy, tasks: Task, keys: UInt32[np.ndarray, "task episode words"]
    ) -> Rollout:
        """Whole episodes: `policies` and `tasks` have a leading axis of tasks. The result has the axes `[task
        episode time ...]`."""
        return self._played(policies, tasks, keys).rollout(keys.shape[:2])

    def sample_task(
        self, policy: AbstractPolicy, task: Task, keys: UInt32[np.ndarray, "episode words"]
    ) -> Rollout:
        """The same of one task, axes `[episode time ...]`."""
        return self._played(add_task_axis(policy), add_task_axis(task), keys[None]).rollout(keys.shape[:1])

    def _played(
        self, policies: AbstractPolicy, tasks: Task, keys: UInt32[np.ndarray, "task episode words"]
    ) -> Record:
        count, episodes, _ = keys.shape
        record = Record(self.env, count * episodes, self.env.horizon)
        rows = np.arange(count * episodes).reshape(count, episodes)

        def some(simulator: AbstractSimulator, part: slice) -> None:
            if count < episodes:  # the longer axis divides more evenly
                rollout_episodes(simulator, policies, tasks, keys[:, part], record, rows[:, part].ravel())
            else:
                acting, own = jax.tree.map(lambda x: x[part] if eqx.is_array(x) else x, (policies, tasks))
                rollout_episodes(simulator, acting, own, keys[part], record, rows[part].ravel())

        self.each(max(count, episodes), record, some)
        return record

    def each(self, count: int, record: Record, work: Callable[[Any, slice], T]) -> list[T]:
        """What `work` gives for each half of `count` things, or for all of them where the record's rows are
        not divided, with a simulator of its own. If one half fails, the other stops."""
        if count == 1 or record.rows < _MANY or not self._in_halves:
            return [work(self.simulator, slice(count))]
        (first, second), middle = self._halves, count // 2
        if self._threads == 1:
            return [work(first, slice(middle)), work(second, slice(middle, count))]
        for simulator in self._halves:
            simulator.use(-(-self._threads // 2))

        def half(simulator: AbstractSimulator, part: slice, longer: AbstractSimulator) -> T:
            played = work(simulator, part)
            longer.use(self._threads)
            return played

        other = self._thread.submit(half, second, slice(middle, count), first)
        other.add_done_callback(lambda it: record.give_up() if it.exception() else None)
        try:
            return [half(first, slice(middle), second), other.result()]
        except CancelledError:  # the other half is what failed
            return [other.result()]
        except BaseException:
            record.give_up()
            wait([other])
            raise

    def close(self) -> None:
        """Gives back threads and memory. What is played afterwards begins with new ones."""
        made = vars(self)
        if "_thread" in made:
            made.pop("_thread").shutdown()
        for simulator in (*made.pop("_halves", ()), *filter(None, [made.pop("simulator", None)])):
            simulator.close()

    @cached_property
    def simulator(self) -> AbstractSimulator:
        """Of rows that are not divided."""
        return self.env.simulator(self._threads)

    @cached_property
    def _halves(self) -> tuple[AbstractSimulator, AbstractSimulator]:
        return self.env.simulator(self._threads), self.env.simulator(self._threads)

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        """Of the second half; the first is played by the caller's."""
        return ThreadPoolExecutor(1, "surefoot-half")
