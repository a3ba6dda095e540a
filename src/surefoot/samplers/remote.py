"""Samplers in other processes: each task is sampled by one worker."""

import copy
import os
import pickle
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from surefoot.envs.base import AbstractFamily, Step
from surefoot.envs.simulation import JaxSimulator, words_of_a_key
from surefoot.options import check
from surefoot.policies.base import AbstractPolicy
from surefoot.samplers.base import AbstractHostSampler, empty_observations, indexed_keys
from surefoot.samplers.host_rollouts import key_data
from surefoot.samplers.host_runner import HostRunner, disable_async_dispatch
from surefoot.samplers.messages import packed, with_warm_up
from surefoot.samplers.record import aligned_zeros
from surefoot.samplers.timeline import Timeline
from surefoot.samplers.workers import AbstractWorkerBackend, Workers
from surefoot.types import Key, Rollout, Task

_SETTINGS = (
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
)
"""The settings of JAX on which the numbers depend."""


class WorkerSetup(NamedTuple):
    """The message that a new worker gets first."""

    factory: bytes
    """A packed function, which makes the first argument of every call."""
    settings: tuple[tuple[str, Any], ...]
    """Settings of JAX, as they are in the process that sends calls."""

    @classmethod
    def of(cls, factory: bytes) -> "WorkerSetup":
        """With the settings of this process."""
        values = jax.config.values
        return cls(factory, tuple((name, values[name]) for name in _SETTINGS if name in values))

    def prepare(self) -> Callable[[], Any]:
        """Sets up JAX in the worker, before it first computes, on one core: there is a worker for each.
        Returns the factory, which makes its object once, when it is first called."""
        # XLA makes as many threads as this says. Its flag against threads would change the rounding.
        os.environ["NPROC"] = "1"
        jax.config.update("jax_platforms", "cpu")
        disable_async_dispatch()
        for name, value in self.settings:
            jax.config.update(name, value)
        return lru_cache(maxsize=1)(lambda: pickle.loads(self.factory)())


class AbstractRemoteSampler(AbstractHostSampler):
    """Whole episodes, one task for each call of a worker: the part that is common to all kinds of workers."""

    asynchronous = True
    keeps_workers: ClassVar[bool] = True
    """Whether a worker of `solo` stays the same process, in which a function finds what it has kept there."""

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
        self.env, self.episodes = env, episodes
        factory = partial(HostRunner, env, threads=1, in_halves=False)  # there is a worker for each core
        setup = WorkerSetup.of(packed(factory, f"The environment {type(env).__name__}"))
        self.workers = Workers(
            partial(self.backend(), setup),
            workers=workers,
            attempts=attempts,
            time_limit=time_limit,
            start_limit=start_limit,
        )

    @abstractmethod
    def backend(self) -> Callable[[WorkerSetup], AbstractWorkerBackend]:
        """The maker of workers, which does not refer to the sampler: it lives as long as they do."""

    @property
    def timeline(self) -> Timeline:
        return self.workers.timeline

    @property
    def has_started(self) -> bool:
        return self.workers.have_started

    @cached_property
    def solo(self) -> tuple[Workers, ...]:
        """As many workers for other calls, each with a pool of its own. Their functions are given a
        `HostRunner`."""
        return self.workers.split()

    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """Returns at once; tasks may outnumber workers."""
        about = f"Task {described(task)}"
        return self.workers.submit(sample_task, policy, task, key_data(key), self.episodes, about=about)

    def sample_on_host(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: int, count: int
    ) -> Rollout:
        # Rows of an array of NumPy are taken at no cost.
        rows = jax.tree.map(lambda x: np.asarray(x) if eqx.is_array(x) else x, (policies, tasks))

        def submit(i: int) -> Future[Rollout]:
            policy, task = jax.tree.map(lambda x: jnp.asarray(x[i]) if isinstance(x, np.ndarray) else x, rows)
            future = self.submit(policy, task, jax.random.fold_in(key, first + i))
            self.timeline.label(future, first + i)
            return future

        futures = [submit(i) for i in range(count)]
        try:
            return _stacked(futures)
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Ends all workers."""
        for workers in (self.workers, *vars(self).get("solo", ())):
            workers.close()


def idle_runner(runner: HostRunner) -> HostRunner:
    """A runner of the same family whose environments stand still: every episode ends after one step. What it
    samples compiles the same programs, and the user's environment has no part in it."""
    env, still = copy.copy(runner.env), empty_observations(runner.env, (), jnp.zeros)
    end = Step((), still, jnp.zeros(()), jnp.ones((), bool))
    simulator = _IdleSimulator(lambda *_: ((), still), lambda *_: end)
    object.__setattr__(env, "simulator", lambda _: simulator)  # it may be frozen
    return HostRunner(env, threads=1, in_halves=False)


class _IdleSimulator(JaxSimulator):
    def restore(self, saved: UInt32[np.ndarray, "rows words"], tasks: Task) -> None:
        """New episodes: what another simulator has saved has another form."""
        self.begin(np.zeros((len(saved), words_of_a_key()), np.uint32), tasks)


@with_warm_up(idle_runner)
def sample_task(
    runner: HostRunner, policy: AbstractPolicy, task: Task, words: UInt32[np.ndarray, " words"], episodes: int
) -> Rollout:
    """Samples the episodes of one task in a worker, axes `[episode time ...]`. `words` are the key's."""
    try:
        return runner.sample_task(policy, task, np.asarray(_episode_keys(words, episodes)))
    except Exception as error:
        error.add_note(f"While sampling task {described(task)} with the key {words.tolist()} in a worker.")
        raise


@partial(jax.jit, static_argnums=1)
def _episode_keys(words: UInt32[jax.Array, " words"], episodes: int) -> UInt32[jax.Array, "episode words"]:
    return jax.random.key_data(indexed_keys(jax.random.wrap_key_data(words), episodes))


def described(task: Task) -> str:
    """The numbers of a task, as many as fit into a line."""
    shown = [np.array2string(np.asarray(x), precision=4, threshold=8) for x in jax.tree.leaves(task)]
    return " ".join(", ".join(shown).split())


def _stacked(futures: list[Future[Rollout]]) -> Rollout:
    """All rollouts with a leading axis of tasks. Those that have arrived are copied while others are
    sampled."""
    first = futures[0].result()
    stacked = jax.tree.map(lambda x: aligned_zeros((len(futures), *x.shape), x.dtype), first)
    for i, future in enumerate(futures):
        leaves = zip(jax.tree.leaves(stacked), jax.tree.leaves(future.result()), strict=True)
        for rows, row in leaves:
            rows[i] = row
    return jax.device_put(stacked)
