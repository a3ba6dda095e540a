"""The batched samplers: all environments of all tasks advance together, one call of their simulator a step.

They serve any family, in this process; for MuJoCo they work at the speed of the physics.
"""

from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from surefoot.envs.base import AbstractFamily
from surefoot.envs.simulation import AbstractResumableSimulator, AbstractSimulator, EpisodeKeys
from surefoot.options import UserError, check
from surefoot.policies.base import AbstractPolicy, initial_memory
from surefoot.samplers.base import AbstractCollector, AbstractSampler, is_traced, unplayed
from surefoot.samplers.playing import Actor, episode_keys, per_row, play, raw
from surefoot.samplers.record import Record
from surefoot.types import Key, Rollout, Task


class BatchedSampler(AbstractSampler):
    """Whole episodes of any number of tasks in step: one evaluation of the policies and one call of the
    simulator for each step of all that have not ended."""

    traceable = False

    def __init__(self, env: AbstractFamily, episodes: int, threads: int) -> None:
        check(episodes >= 1, "episodes", episodes, "1 or more")
        self.env, self.episodes, self._threads = env, episodes, threads

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> None:
        """Every batch begins anew, with whole episodes."""
        del policy, task, key

    def collect(self, policy: AbstractPolicy, task: Task, where: None, key: Key) -> tuple[None, Rollout]:
        del where
        if is_traced(policy, task, key):
            return None, unplayed(self.env, (self.episodes, self.env.horizon))
        keys = episode_keys(key, self.episodes)
        rollout = play(self._simulator, self.env.horizon, _one(policy), _one(task), keys[None])
        return None, jax.tree.map(lambda x: x[0], rollout)

    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """At once: the future is done when it is returned."""
        future: Future[Rollout] = Future()
        try:
            future.set_result(self.collect(policy, task, None, key)[1])
        except Exception as error:  # the contract: exceptions travel in the future
            future.set_exception(error)
        return future

    def sample(self, policies: AbstractPolicy, tasks: Task, key: Key) -> Rollout:
        count = jax.tree.leaves(tasks)[0].shape[0]
        if is_traced(policies, tasks, key):
            return unplayed(self.env, (count, self.episodes, self.env.horizon))
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
        keys = jax.vmap(lambda k: episode_keys(k, self.episodes))(keys)
        return play(self._simulator, self.env.horizon, policies, tasks, keys)

    def close(self) -> None:
        if "_simulator" in vars(self):
            self._simulator.close()
            del self._simulator

    @cached_property
    def _simulator(self) -> AbstractSimulator:
        """Made when it is first needed."""
        return self.env.simulator(self._threads)


class Standing(eqx.Module):
    """Where every stream stands. All axes begin with `stream`."""

    begun: Bool[Array, ""]
    """False before the first batch, when the rest means nothing."""
    saved: UInt32[Array, "stream words"]
    """What the simulator needs to go on."""
    observations: Float[Array, "stream obs"]
    times: Int[Array, " stream"]
    """Steps since the episode began."""
    memory: PyTree


class BatchedStreams(AbstractCollector):
    """One task, `streams` times side by side, `steps` of each a batch, whatever ends in between.

    A batch begins from what the last one saved, so that going on from a checkpoint is the same as never
    having stopped.
    """

    traceable = False

    def __init__(self, env: AbstractFamily, streams: int, steps: int, threads: int) -> None:
        check(streams >= 1, "streams", streams, "1 or more")
        check(steps >= 1, "steps", steps, "1 or more")
        self.env, self.streams, self.steps, self._threads = env, streams, steps, threads

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> Standing:
        """Nothing has begun: the first batch begins every stream with its own key."""
        del task, key
        n = self.streams
        return Standing(
            jnp.zeros((), bool),
            jnp.zeros((n, self._simulator.words()), jnp.uint32),
            jnp.zeros((n, self.env.observation_size)),
            jnp.zeros(n, jnp.int32),
            jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), initial_memory(policy)),
        )

    def collect(
        self, policy: AbstractPolicy, task: Task, where: Standing, key: Key
    ) -> tuple[Standing, Rollout]:
        if is_traced(policy, task, where, key):
            return where, replace(unplayed(self.env, (self.streams, self.steps)), memory=where.memory)
        keys = EpisodeKeys.of(key)
        tasks, beginnings = per_row(_one(task), self.streams), _Beginnings(keys.reset, self.streams)
        actor = Actor(_one(policy), jax.random.split(keys.actions, (1, self.streams)), _one(where.memory))
        if where.begun:
            self._simulator.restore(np.asarray(where.saved), tasks)
            observations, times = np.array(where.observations), np.array(where.times)
        else:
            observations = np.array(self._simulator.begin(beginnings.all(0), tasks))
            times = np.zeros(self.streams, np.int32)
        record, rows = Record(self.steps, *observations.shape), np.arange(self.streams)
        for step in range(self.steps):
            actions, log_probs = actor.act(observations, step)
            outcome = self._simulator.step(rows, actions)
            cut = times == self.env.horizon - 1
            record.add(step, rows, observations, actions, log_probs, outcome, cut, times)
            ended = outcome.terminated | cut
            observations, times = outcome.observations.copy(), times + 1
            if ended.any():
                again = np.flatnonzero(ended)
                observations[again] = self._simulator.renew(again, beginnings.all(step + 1)[again])
                times[again] = 0
                actor.forget(ended)
        end = Standing(
            jnp.ones((), bool),
            jnp.asarray(self._simulator.save()),
            jnp.asarray(observations),
            jnp.asarray(times),
            jax.tree.map(lambda x: x[0], actor.memory),
        )
        return end, record.rollout((self.streams,), memory=where.memory)

    def close(self) -> None:
        if "_simulator" in vars(self):
            self._simulator.close()
            del self._simulator

    @cached_property
    def _simulator(self) -> AbstractResumableSimulator:
        simulator = self.env.simulator(self._threads)
        if not isinstance(simulator, AbstractResumableSimulator):
            raise UserError(
                "Streams go on from one batch to the next, and this environment's episodes cannot be put "
                "away between them; use whole episodes: --streams 0."
            )
        return simulator


class _Beginnings:
    """The keys of episodes that begin within a batch, as simulators take them: by row and step."""

    def __init__(self, key: Key, rows: int) -> None:
        self._keys = raw(jax.random.split(key, rows))

    def all(self, step: int) -> UInt32[np.ndarray, "rows words"]:
        return np.asarray(_folded(self._keys, np.int32(step)))


@jax.jit
def _folded(keys: Array, step: Array) -> Array:
    fold = jax.vmap(lambda key: jax.random.fold_in(key, step))
    return jax.random.key_data(fold(jax.random.wrap_key_data(keys)))


def _one(tree: PyTree) -> PyTree:
    """With a leading axis of one task."""
    return jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, tree)
