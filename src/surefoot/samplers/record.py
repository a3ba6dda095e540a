"""What was played from the host, step by step, as a rollout."""

from concurrent.futures import CancelledError

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree, Shaped

from surefoot.envs.base import AbstractFamily
from surefoot.envs.simulation import Outcome, selection
from surefoot.types import Continuous, Rollout


class Record:
    """Steps of some rows, until they are all there. What is never added is padding. Several threads may add
    to it, each for rows of its own."""

    def __init__(self, env: AbstractFamily, rows: int, steps: int) -> None:
        shape, space = (rows, steps), env.action_space
        self.rows, self.steps = shape
        self._observations = np.zeros((*shape, env.observation_size), np.float32)
        self._next_observations = np.zeros_like(self._observations)
        self._actions = (
            np.zeros((*shape, space.size), np.float32)
            if isinstance(space, Continuous)
            else np.zeros(shape, np.int32)
        )
        self._log_probs = np.zeros(shape, np.float32)
        self._rewards = np.zeros(shape, np.float32)
        self._terminated = np.zeros(shape, bool)
        self._truncated = np.zeros(shape, bool)
        self._valid = np.zeros(shape, bool)
        self._times = np.zeros(shape, np.int32)
        self._given_up = False

    def add(
        self,
        step: int,
        rows: Int[np.ndarray, " n"],
        observations: Float[np.ndarray, "n obs"],
        actions: Shaped[np.ndarray, "n ..."],
        log_probs: Float[np.ndarray, " n"],
        outcome: Outcome,
        truncated: Bool[np.ndarray, " n"],
        times: Int[np.ndarray, " n"],
    ) -> None:
        """One step of these rows: what was seen, what was done and what came of it. Raises `CancelledError`
        if the record was given up."""
        if self._given_up:
            raise CancelledError
        where = selection(rows), step
        self._observations[where] = observations
        self._next_observations[where] = outcome.observations
        self._actions[where] = actions
        self._log_probs[where] = log_probs
        self._rewards[where] = outcome.rewards
        self._terminated[where] = outcome.terminated
        self._truncated[where] = truncated & ~outcome.terminated
        self._valid[where] = True
        self._times[where] = times

    def give_up(self) -> None:
        """Nothing more can be added: what other threads still play is not wanted."""
        self._given_up = True

    def rollout(self, axes: tuple[int, ...], memory: PyTree = None) -> Rollout:
        """Everything, the rows divided into `axes`: `[*axes time ...]`. Nothing can be added afterwards."""
        self.give_up()

        def divided(x: np.ndarray) -> jnp.ndarray:
            return jnp.asarray(x.reshape(*axes, *x.shape[1:]))

        return Rollout(
            observations=divided(self._observations),
            actions=divided(self._actions),
            log_probs=divided(self._log_probs),
            rewards=divided(self._rewards),
            terminated=divided(self._terminated),
            truncated=divided(self._truncated),
            valid=divided(self._valid),
            next_observations=divided(self._next_observations),
            times=divided(self._times),
            memory=memory,
        )
