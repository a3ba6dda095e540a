"""A Gymnasium environment that fails in the way its task says, and what tells whether processes live."""

import ctypes
import os
import signal
import time
from enum import IntEnum
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium import spaces
from jax.core import Tracer

from surefoot.policies import AbstractPolicyWrapper
from surefoot.samplers.workers import Workers
from surefoot.types import Observations

FOLDER = "SUREFOOT_TEST_FAULTS"
"""The environment variable that names the folder in which faults that happen once leave a mark."""


class Fault(IntEnum):
    NONE = 0
    KILLED = 1
    HANGS = 2
    ALWAYS_KILLED = 3
    ALWAYS_HANGS = 4
    RAISES = 5
    NAN = 6
    SHAPE = 7
    DTYPE = 8
    REWARD = 9
    EXITS = 10
    TRUNCATES = 11
    OLD = 12


class Faulty(gymnasium.Env):
    """A random walk, whose task is the fault that happens at step 3, and a number."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(3)

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.stack([np.zeros(n), np.random.default_rng(seed).random(n)], axis=1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.task, self.time = options["task"], 0
        self.position = self.np_random.standard_normal(2)
        return self.position.copy(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        self.position += self.np_random.standard_normal(2) + action
        result = self.position.copy(), float(self.position.sum()), bool(self.position[0] > 9), False, {}
        return fail(Fault(int(self.task[0])), float(self.task[1]), result) if self.time == 3 else result


def fail(fault: Fault, number: float, result: Any) -> Any:
    if fault in (Fault.KILLED, Fault.HANGS):
        mark = mark_of(number)
        if mark.exists():
            return result
        mark.touch()
    if fault in (Fault.KILLED, Fault.ALWAYS_KILLED):
        os.kill(os.getpid(), signal.SIGKILL)
    if fault in (Fault.HANGS, Fault.ALWAYS_HANGS):
        time.sleep(3600)
    if fault == Fault.RAISES:
        raise ValueError("the wall is too high")
    if fault == Fault.EXITS:
        raise SystemExit(3)
    observation, reward, terminated, _, info = result
    return {
        Fault.NAN: (observation * np.nan, reward, terminated, False, info),
        Fault.SHAPE: (np.zeros(3), reward, terminated, False, info),
        Fault.DTYPE: (np.array(["left", "right"]), reward, terminated, False, info),
        Fault.REWARD: (observation, None, terminated, False, info),
        Fault.TRUNCATES: (observation, reward, False, True, info),
        Fault.OLD: (observation, reward, terminated, info),
    }.get(fault, result)


def mark_of(number: float) -> Path:
    """What a fault that happens once leaves behind."""
    return Path(os.environ[FOLDER]) / f"{number:.3f}"


def pid(made: Any, seconds: float) -> int:
    """The worker's, which is busy for so long."""
    time.sleep(seconds)
    return os.getpid()


def pids(workers: Workers, count: int) -> set[int]:
    """Those of all workers, which must be idle."""
    return {future.result() for future in [workers.submit(pid, 0.5) for _ in range(count)]}


def sleep(made: Any, seconds: float) -> None:
    time.sleep(seconds)


def hold_the_interpreter(made: Any, seconds: float) -> None:
    """Sleeps in C without giving the interpreter to other threads."""
    ctypes.PyDLL(None).sleep(int(seconds))


def stay(made: Any, folder: str, seconds: float) -> float:
    """Leaves a mark of this call, and takes so long."""
    (Path(folder) / str(time.monotonic_ns())).touch()
    time.sleep(seconds)
    return seconds


def is_alive(pid: int) -> bool:
    """Neither gone nor dead and waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    """Those that are still there after so long."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


class SlowToTrace(AbstractPolicyWrapper):
    """A policy that takes 0.6 seconds whenever a part of a program is made of it, some ten times."""

    policy: Any

    def observed(self, observations: Observations) -> Observations:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(observations)):
            time.sleep(0.6)
        return observations
