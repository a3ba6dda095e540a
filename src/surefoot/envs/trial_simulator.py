"""Trials of a family that is stepped from the host."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Shaped, UInt32

from surefoot.envs.simulation import AbstractSimulator, Outcome, with_rows
from surefoot.types import Observations, Task

NEXT_EPISODE = 0x7121A1
"""Folded into a key for the episode that follows another one: the key itself is the first one's, so that a
trial of one episode is that episode."""


class TrialSimulator(AbstractSimulator):
    """Parallel trials: in each row the episodes of one task, one after another. Trials cannot be saved."""

    def __init__(self, env: Any, episodes: int, previous_observation: bool, threads: int) -> None:
        """`env` is the family whose `episodes` episodes make a trial. With `previous_observation` each
        observation comes with the one before it."""
        self._simulator: AbstractSimulator = env.simulator(threads)
        self._space, self._limit, self._episodes = env.action_space, env.horizon, episodes
        self._keeps = previous_observation
        self._kept: Observations = None
        """Each row's last observation, if the next one comes with it."""
        self._keys = np.zeros((0, 2), np.uint32)
        self._times = self._ended = self._steps = np.zeros(0, np.int32)

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> Observations:
        self._keys = keys.copy()
        self._times, self._ended, self._steps = (np.zeros(len(keys), np.int32) for _ in range(3))
        observations = self._simulator.begin(keys, tasks)
        if self._keeps:
            self._kept = jax.tree.map(np.copy, observations)
        return self._first(observations, len(keys))

    def renew(self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]) -> Observations:
        self._keys[rows] = keys
        self._times[rows] = self._ended[rows] = self._steps[rows] = 0
        observations = self._simulator.renew(rows, keys)
        self._exchange(rows, observations)
        return self._first(observations, len(rows))

    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n ..."]) -> Outcome:
        outcome = self._simulator.step(rows, actions)
        self._times[rows] += 1
        self._steps[rows] += 1
        over = outcome.terminated | outcome.truncated | (self._times[rows] == self._limit)
        self._ended[rows] += over
        self._times[rows[over]] = 0
        observations = self._with_next_episodes(rows, over, outcome.observations)
        encoded = np.asarray(self._space.encode(jnp.asarray(actions)), np.float32)
        # At the horizon it is the sampler's time limit that ends it.
        early = self._steps[rows] < self._episodes * self._limit
        terminated = (self._ended[rows] == self._episodes) & early
        last = encoded, outcome.rewards.astype(np.float32), over.astype(np.float32)
        seen = trial_observation(observations, self._exchange(rows, observations), *last)
        return Outcome(seen, outcome.rewards, terminated, np.zeros(len(rows), bool))

    def use(self, threads: int) -> None:
        self._simulator.use(threads)

    def close(self) -> None:
        self._simulator.close()

    def _with_next_episodes(
        self, rows: Int[np.ndarray, " n"], over: Bool[np.ndarray, " n"], observations: Observations
    ) -> Observations:
        """The observations, with the first ones of the episodes that begin where others are over."""
        begins = over & (self._ended[rows] < self._episodes)
        if not begins.any():
            return observations
        keys = np.asarray(_next_keys(self._keys, self._ended))[rows[begins]]
        return with_rows(observations, begins, self._simulator.renew(rows[begins], keys))

    def _exchange(self, rows: Int[np.ndarray, " n"], observations: Observations) -> Observations | None:
        """The last observations of these rows, in whose place `observations` are kept; None if none are."""
        if not self._keeps:
            return None
        before = jax.tree.map(lambda kept: kept[rows], self._kept)
        jax.tree.map(lambda kept, new: kept.__setitem__(rows, new), self._kept, observations)
        return before

    def _first(self, observations: Observations, rows: int) -> Observations:
        """The first observations of trials."""
        before = jax.tree.map(np.zeros_like, observations) if self._keeps else None
        action, nothing = np.zeros((rows, self._space.features), np.float32), np.zeros(rows, np.float32)
        return trial_observation(observations, before, action, nothing, nothing)


def trial_observation(
    observation: Observations, before: Observations | None, action: Any, reward: Any, ended: Any
) -> Observations:
    """The observation of a trial, any leading axes: beside the episode's own, the encoded action and
    the reward of the step before, and whether it ended an episode, all as real numbers."""
    seen = {
        "observation": observation,
        "previous_action": action,
        "previous_reward": reward[..., None],
        "episode_ended": ended[..., None],
    }
    return seen | ({} if before is None else {"previous_observation": before})


@jax.jit
def _next_keys(keys: Array, ended: Int[Array, " rows"]) -> Array:
    """The keys of each row's episode after this number of them."""

    def fold(key: Array, number: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, NEXT_EPISODE), number)

    return jax.random.key_data(jax.vmap(fold)(jax.random.wrap_key_data(keys), ended))
