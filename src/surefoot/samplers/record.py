"""What was played from the host, step by step, as a rollout."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree, Shaped

from surefoot.envs.simulation import Outcome, selection
from surefoot.types import Rollout


class Record:
    """Steps of some rows, kept in the order of time until they are all there. What is never added is
    padding."""

    def __init__(self, steps: int, rows: int, observation_size: int) -> None:
        shape = steps, rows
        self._observations = np.zeros((*shape, observation_size), np.float32)
        self._next_observations = np.zeros_like(self._observations)
        self._actions: np.ndarray | None = None
        self._log_probs = np.zeros(shape, np.float32)
        self._rewards = np.zeros(shape, np.float32)
        self._terminated = np.zeros(shape, bool)
        self._truncated = np.zeros(shape, bool)
        self._valid = np.zeros(shape, bool)
        self._times = np.zeros(shape, np.int32)

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
        """One step of these rows: what was seen, what was done and what came of it."""
        if self._actions is None:
            self._actions = np.zeros((*self._valid.shape, *actions.shape[1:]), actions.dtype)
        where = step, selection(rows)
        self._observations[where] = observations
        self._next_observations[where] = outcome.observations
        self._actions[where] = actions
        self._log_probs[where] = log_probs
        self._rewards[where] = outcome.rewards
        self._terminated[where] = outcome.terminated
        self._truncated[where] = truncated & ~outcome.terminated
        self._valid[where] = True
        self._times[where] = times

    def rollout(self, axes: tuple[int, ...], memory: PyTree = None) -> Rollout:
        """Everything, the rows divided into `axes`: `[*axes time ...]`."""
        assert self._actions is not None

        def ordered(x: np.ndarray) -> jnp.ndarray:
            return jnp.asarray(np.moveaxis(x.reshape(len(x), *axes, *x.shape[2:]), 0, len(axes)))

        return Rollout(
            observations=ordered(self._observations),
            actions=ordered(self._actions),
            log_probs=ordered(self._log_probs),
            rewards=ordered(self._rewards),
            terminated=ordered(self._terminated),
            truncated=ordered(self._truncated),
            valid=ordered(self._valid),
            next_observations=ordered(self._next_observations),
            times=ordered(self._times),
            memory=memory,
        )
