"""An environment that keeps a core busy for a known time: each step hashes so many bytes."""

import hashlib
import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

NAME = "sampling_busy:Busy"
WORK = "SUREFOOT_BENCHMARK_WORK"
"""The variable of the environment that holds the number of bytes: processes inherit it, and the class is made
without arguments."""
_TRIAL = 2**16


class Busy(gymnasium.Env):
    """20 observations, 6 actions, and work in C. It has no end of its own."""

    observation_space = Box(-np.inf, np.inf, (20,), np.float32)
    action_space = Box(-1.0, 1.0, (6,), np.float32)

    def __init__(self) -> None:
        self._bytes = bytes(int(os.environ[WORK]))
        self._observation = np.zeros(20, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        del options
        return self._observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        del action
        hashlib.sha256(self._bytes).digest()
        return self._observation, 0.0, False, False, {}


class Calibration:
    """How many bytes are hashed in a time."""

    def bytes_in(self, microseconds: float) -> int:
        """By the fastest of many trials of some tens of microseconds each: nothing else disturbs that one."""
        buffer = bytes(_TRIAL)
        return round(_TRIAL * 1e-6 * microseconds / min(_seconds(buffer) for _ in range(2000)))


def _seconds(buffer: bytes) -> float:
    start = time.perf_counter()
    hashlib.sha256(buffer).digest()
    return time.perf_counter() - start
