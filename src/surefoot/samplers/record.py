"""What was played from the host, step by step, as a rollout."""

from concurrent.futures import CancelledError
from math import prod
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree, Shaped

from surefoot.envs.base import AbstractFamily
from surefoot.envs.simulation import Outcome, selection
from surefoot.types import Continuous, Rollout

_ALIGNMENT = 64


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Where JAX on a CPU takes them as they are: it copies what does not begin at a multiple of 64 bytes."""
    size = prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


class Record:
    """Steps of some rows, until they are all there. What is never added is padding. Several threads may add
    to it, each for rows of its own."""

    def __init__(self, env: AbstractFamily, rows: int, steps: int) -> None:
        shape, space = (rows, steps), env.action_space
        self.rows, self.steps = shape
        self._observations = aligned_zeros((*shape, env.observation_size), np.float32)
        self._next_observations = aligned_zeros((*shape, env.observation_size), np.float32)
        self._actions = (
            aligned_zeros((*shape, space.size), np.float32)
            if isinstance(space, Continuous)
            else aligned_zeros(shape, np.int32)
        )
        self._log_probs = aligned_zeros(shape, np.float32)
        self._rewards = aligned_zeros(shape, np.float32)
        self._terminated = aligned_zeros(shape, np.bool_)
        self._truncated = aligned_zeros(shape, np.bool_)
        self._valid = aligned_zeros(shape, np.bool_)
        self._times = aligned_zeros(shape, np.int32)
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

        fields = {
            "observations": self._observations,
            "actions": self._actions,
            "log_probs": self._log_probs,
            "rewards": self._rewards,
            "terminated": self._terminated,
            "truncated": self._truncated,
            "valid": self._valid,
            "next_observations": self._next_observations,
            "times": self._times,
        }
        divided = {name: x.reshape(*axes, *x.shape[1:]) for name, x in fields.items()}
        return Rollout(**jax.device_put(divided), memory=memory)
