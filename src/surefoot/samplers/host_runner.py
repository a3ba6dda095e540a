"""Rollouts in this process, stepped from the host: a family's simulators and their threads."""

from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import UInt32

from surefoot.envs.base import AbstractFamily, check_time_limit
from surefoot.envs.simulation import AbstractSimulator
from surefoot.policies.base import AbstractPolicy
from surefoot.samplers.host_rollouts import add_task_axis, rollout_episodes
from surefoot.samplers.record import Record
from surefoot.types import Rollout, Task

_MIN_ROWS = 8
"""Fewer rows are not divided: the fixed cost of a step would be paid twice."""
T = TypeVar("T")


def disable_async_dispatch() -> None:
    """Lets JAX on a CPU execute each compiled program in the thread that calls it.

    By default JAX hands a program to another thread and returns. A sampler that steps from the host waits for
    every action, and waking the other thread takes longer than evaluating a small policy. JAX reads this
    setting once, when it first computes: in a program that has computed before, nothing changes. Accelerators
    are not concerned.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


class HostRunner:
    """Samples a family's episodes by its simulators.

    Where simulators release Python's global lock, many rows are divided into two halves. Each half has its
    own simulator and half of the threads, and does not wait for the other: one half moves while the policies
    of the other are evaluated. When one half has ended, the other gets all threads.

    The rollouts do not depend on the number of threads: a single thread samples the halves one after the
    other. A runner that never has more than one thread is faster with `in_halves` off.
    """

    def __init__(self, env: AbstractFamily, threads: int, *, in_halves: bool = True) -> None:
        disable_async_dispatch()
        self.env, self._threads = env, threads
        self._in_halves = in_halves and env.releases_gil
        self._of_streams: dict[int, HostRunner] = {}

    def sample(
        self, policies: AbstractPolicy, tasks: Task, keys: UInt32[np.ndarray, "task episode words"]
    ) -> Rollout:
        """Whole episodes of many tasks, axes `[task episode time ...]`. `policies` and `tasks` have a leading
        axis of tasks."""
        return self._record(policies, tasks, keys).rollout(keys.shape[:2])

    def sample_task(
        self, policy: AbstractPolicy, task: Task, keys: UInt32[np.ndarray, "episode words"]
    ) -> Rollout:
        """Whole episodes of one task, axes `[episode time ...]`."""
        return self._record(add_task_axis(policy), add_task_axis(task), keys[None]).rollout(keys.shape[:1])

    def _record(
        self, policies: AbstractPolicy, tasks: Task, keys: UInt32[np.ndarray, "task episode words"]
    ) -> Record:
        check_time_limit(self.env)
        count, episodes, _ = keys.shape
        record = Record(self.env, count * episodes, self.env.horizon)
        rows = np.arange(count * episodes).reshape(count, episodes)

        def sample_part(simulator: AbstractSimulator, part: slice) -> None:
            if count < episodes:  # the longer axis divides more evenly
                rollout_episodes(simulator, policies, tasks, keys[:, part], record, rows[:, part].ravel())
            else:
                acting, own = jax.tree.map(lambda x: x[part] if eqx.is_array(x) else x, (policies, tasks))
                rollout_episodes(simulator, acting, own, keys[part], record, rows[part].ravel())

        self.each(max(count, episodes), record, sample_part)
        return record

    def each(self, count: int, record: Record, work: Callable[[Any, slice], T]) -> list[T]:
        """The results of `work(simulator, part)` for both halves of `count` things, or for all of them where
        the record's rows are not divided. If one half fails, the other stops."""
        if count == 1 or record.rows < _MIN_ROWS or not self._in_halves:
            return [work(self.simulator, slice(count))]
        (first, second), middle = self._halves, count // 2
        if self._threads == 1:
            return [work(first, slice(middle)), work(second, slice(middle, count))]
        for simulator in self._halves:
            simulator.use(-(-self._threads // 2))

        def half(simulator: AbstractSimulator, part: slice, longer: AbstractSimulator) -> T:
            result = work(simulator, part)
            longer.use(self._threads)
            return result

        other = self._thread.submit(half, second, slice(middle, count), first)
        other.add_done_callback(lambda it: record.give_up() if it.exception() else None)
        try:
            return [half(first, slice(middle), second), other.result()]
        except CancelledError:  # the other half has failed
            return [other.result()]
        except BaseException:
            record.give_up()
            wait([other])
            raise

    def of_stream(self, number: int) -> "HostRunner":
        """A runner for the stream of this number alone, kept until `close`."""
        if number not in self._of_streams:
            self._of_streams[number] = HostRunner(self.env, self._threads, in_halves=False)
        return self._of_streams[number]

    def close(self) -> None:
        """Releases threads and memory. Later calls start new ones."""
        while self._of_streams:
            self._of_streams.popitem()[1].close()
        made = vars(self)
        if "_thread" in made:
            made.pop("_thread").shutdown()
        for simulator in (*made.pop("_halves", ()), *filter(None, [made.pop("simulator", None)])):
            simulator.close()

    @cached_property
    def simulator(self) -> AbstractSimulator:
        """The simulator of rows that are not divided."""
        return self.env.simulator(self._threads)

    @cached_property
    def _halves(self) -> tuple[AbstractSimulator, AbstractSimulator]:
        return self.env.simulator(self._threads), self.env.simulator(self._threads)

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        """The thread of the second half; the caller's thread samples the first."""
        return ThreadPoolExecutor(1, "surefoot-half")
