"""Sampling away from this process: each task is played by one worker, alone."""

from concurrent.futures import Future
from functools import cached_property, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree, UInt32

from surefoot.envs.base import AbstractFamily
from surefoot.policies.base import AbstractPolicy
from surefoot.samplers.base import AbstractSampler, empty_rollout, is_traced
from surefoot.samplers.host_rollouts import episode_keys, key_data
from surefoot.samplers.host_runner import HostRunner
from surefoot.samplers.messages import packed
from surefoot.samplers.record import aligned_zeros
from surefoot.samplers.workers import Workers
from surefoot.types import Key, Rollout, Task


class AbstractRemoteSampler(AbstractSampler):
    """Whole episodes of one task a call, by workers: what is common to all kinds of them."""

    traceable = False
    asynchronous = True
    workers: Workers

    @cached_property
    def solo(self) -> tuple[Workers, ...]:
        """For other calls than a sampler's: as many workers, each with calls of its own. Their functions are
        given a `HostRunner`."""
        return self.workers.split()

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> None:
        """Every batch begins anew, with whole episodes."""
        del policy, task, key

    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """Returns at once; tasks may outnumber workers."""
        about = f"Playing task {described(task)}"
        return self.workers.submit(sample_task, policy, task, key_data(key), self.episodes, about=about)

    def collect(self, policy: AbstractPolicy, task: Task, where: None, key: Key) -> tuple[None, Rollout]:
        del where
        if is_traced(policy, task, key):
            return None, empty_rollout(self.env, (self.episodes, self.env.horizon))
        return None, self.submit(policy, task, key).result()

    def sample(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""] | int = 0
    ) -> Rollout:
        count = jax.tree.leaves(tasks)[0].shape[0]
        if is_traced(policies, tasks, key):
            return empty_rollout(self.env, (count, self.episodes, self.env.horizon))
        policies, tasks = _on_the_host(policies), _on_the_host(tasks)
        futures = [
            self.submit(_row(policies, i), _row(tasks, i), jax.random.fold_in(key, first + i))
            for i in range(count)
        ]
        try:
            return _stacked(futures)
        finally:
            for future in futures:
                future.cancel()

    def close_workers(self) -> None:
        """Ends them all."""
        for workers in (self.workers, *vars(self).get("solo", ())):
            workers.close()


def setup(env: AbstractFamily) -> bytes:
    """A pickled factory of a worker's `HostRunner`, with one thread: there is a worker for each core. Raises
    `UserError` if the environment cannot be sent."""
    return packed(
        partial(HostRunner, env, threads=1, in_halves=False), f"The environment {type(env).__name__}"
    )


def sample_task(
    runner: HostRunner, policy: AbstractPolicy, task: Task, words: UInt32[np.ndarray, " words"], episodes: int
) -> Rollout:
    """In a worker: the episodes of one task, axes `[episode time ...]`. `words` are those of the key."""
    keys = np.asarray(_episode_keys(words, episodes))
    try:
        return runner.sample_task(policy, task, keys)
    except Exception as error:
        error.add_note(f"While playing task {described(task)} with the key {words.tolist()} in a worker.")
        raise


def described(task: Task) -> str:
    """Its numbers, as far as they fit into a line."""
    shown = [np.array2string(np.asarray(x), precision=4, threshold=8) for x in jax.tree.leaves(task)]
    return " ".join(", ".join(shown).split())


@partial(jax.jit, static_argnums=1)
def _episode_keys(words: UInt32[Array, " words"], episodes: int) -> UInt32[Array, "episode words"]:
    return jax.random.key_data(episode_keys(jax.random.wrap_key_data(words), episodes))


def _stacked(futures: list[Future[Rollout]]) -> Rollout:
    """All of them with a leading axis of tasks. What has arrived is put in its place while the rest is
    played."""
    all_of_them = jax.tree.map(
        lambda x: aligned_zeros((len(futures), *x.shape), x.dtype), futures[0].result()
    )
    for i, future in enumerate(futures):
        jax.tree.map(partial(_put, i), all_of_them, future.result())
    return jax.device_put(all_of_them)


def _put(i: int, rows: np.ndarray, row: Array) -> None:
    rows[i] = row


def _on_the_host(tree: PyTree) -> PyTree:
    """To take a row out of an array of NumPy costs nothing."""
    return jax.tree.map(lambda x: np.asarray(x) if eqx.is_array(x) else x, tree)


def _row(tree: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda x: jnp.asarray(x[i]) if isinstance(x, np.ndarray | jax.Array) else x, tree)
