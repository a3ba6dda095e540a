"""Steps that are taken from the host, recorded as a rollout."""

from concurrent.futures import CancelledError
from math import prod
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from surefoot.envs.base import AbstractFamily
from surefoot.envs.simulation import Outcome, selection
from surefoot.samplers.base import empty_arrays
from surefoot.types import Observations, Rollout

_ALIGNMENT = 64


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros in memory that JAX on a CPU uses without a copy: it begins at a multiple of 64 bytes."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


class Record:
    """The steps of some rows, filled in one by one. Steps that are never added are padding. Several threads
    may add steps, each of its own rows."""

    def __init__(self, env: AbstractFamily, rows: int, steps: int, finals: int = 1) -> None:
        """Each row has `finals` final observations, or one for every step if that is too few."""
        self.rows, self.steps = rows, steps
        *self._fields, self._finals = empty_arrays(env, (rows, steps), finals, aligned_zeros)
        self._leaves = jax.tree.leaves(self._fields)
        self._ended: list[tuple[int, np.ndarray, Observations]] = []
        self._closed = False

    def add(
        self,
        step: int,
        rows: Int[np.ndarray, " n"],
        observations: Observations,
        actions: Shaped[np.ndarray, "n ..."],
        log_probs: Float[np.ndarray, " n"],
        outcome: Outcome,
        truncated: Bool[np.ndarray, " n"],
        times: Int[np.ndarray, " n"],
    ) -> None:
        """Adds one step of these rows. Raises `CancelledError` after `give_up`."""
        if self._closed:
            raise CancelledError
        values = (  # in the order of the fields of `Rollout`
            observations,
            actions,
            log_probs,
            outcome.rewards,
            outcome.terminated,
            truncated & ~outcome.terminated,
            True,
            times,
        )
        place = selection(rows), step
        for field, value in zip(self._leaves, jax.tree.leaves(values), strict=True):
            field[place] = value
        ended = np.flatnonzero(outcome.terminated | truncated | (step == self.steps - 1))
        if len(ended):
            led_to = jax.tree.map(lambda x: x[ended], outcome.observations)
            self._ended.append((step, rows[ended], led_to))

    def give_up(self) -> None:
        """Accepts no more steps, so that other threads stop."""
        self._closed = True

    def rollout(self, axes: tuple[int, ...]) -> Rollout:
        """The rollout, its rows divided into `axes`: `[*axes time ...]`. Nothing can be added afterwards."""
        self.give_up()
        fields = (*self._fields, self._final_observations())
        divided = jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), fields)
        return Rollout(*jax.device_put(divided))

    def _final_observations(self) -> Observations:
        """Those after truncated steps, and after each row's last one."""
        *_, truncated, valid, _ = self._fields
        is_final = truncated | (valid & ~np.pad(valid, ((0, 0), (0, 1)))[:, 1:])
        place = np.cumsum(is_final, axis=1) - 1
        finals = self._finals
        if place.max(initial=0) >= jax.tree.leaves(finals)[0].shape[1]:
            finals = jax.tree.map(lambda x: aligned_zeros((*place.shape, *x.shape[2:]), x.dtype), finals)
        for step, rows, led_to in self._ended:
            kept = is_final[rows, step]
            where = rows[kept], place[rows[kept], step]
            for all_finals, some in zip(*map(jax.tree.leaves, (finals, led_to)), strict=True):
                all_finals[where] = some[kept]
        return finals
