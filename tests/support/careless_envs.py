"""Gymnasium environments as people write them, each with one thing that is odd or wrong."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

STARTED = "SUREFOOT_TEST_STARTED"
"""The environment variable that names the file of what `Starts` started, and of what it closed."""


class Sound(gymnasium.Env):
    """Ends at the third step."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.seen(), {}

    def seen(self) -> Any:
        return np.full(self.observation_space.shape, self.time, np.float32)

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.seen(), *self.end(action), {}

    def end(self, action: Any) -> Any:
        return 1.0, self.time >= 3, False


class CannotBeShown:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class ObservesNothingStated(gymnasium.Env):
    action_space = spaces.Discrete(2)


class ObservesNone(Sound):
    observation_space = None


class ActsNothingStated(gymnasium.Env):
    observation_space = spaces.Discrete(2)


class Blind(Sound):
    observation_space = spaces.Box(-1, 1, (0,))


class Paralysed(Sound):
    action_space = spaces.Box(-1, 1, (0,))


class ExitsWhenMade(Sound):
    def __init__(self) -> None:
        sys.exit(0)


class Exits(Sound):
    def end(self, action: Any) -> Any:
        sys.exit(0)


class LeavesTheGenerator(Sound):
    def end(self, action: Any) -> Any:
        raise GeneratorExit


class TalksForEver(Sound):
    def end(self, action: Any) -> Any:
        raise ValueError("z" * 2_000_000)


class EndsOfMany(Sound):
    def end(self, action: Any) -> Any:
        return 1.0, np.array([True, False]), False


class EndsByText(Sound):
    def end(self, action: Any) -> Any:
        return 1.0, "no", False


class PaysWhatCannotBeShown(Sound):
    def end(self, action: Any) -> Any:
        return CannotBeShown(), False, False


class SeesRagged(Sound):
    def seen(self) -> Any:
        return [[1.0], [2.0, 3.0]]


class SeesOutsideItsSpace(Sound):
    observation_space = spaces.Dict({"place": spaces.Discrete(3), "speed": spaces.Box(-1, 1, (1,))})

    def seen(self) -> Any:
        return {"place": 3 + 2 * self.time, "speed": np.zeros(1)}


class LacksAPart(SeesOutsideItsSpace):
    def seen(self) -> Any:
        return {"place": 1}


class CannotClose(Sound):
    def close(self) -> None:
        self.window.close()


class CutsShort(Sound):
    """Truncates at the second step."""

    def end(self, action: Any) -> Any:
        return 1.0, False, self.time >= 2


class TasksOfText(Sound):
    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.array(["left"] * n)


class Throttle(Sound):
    """Pays what it is given, in revolutions."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Box(np.float32([1000.0, -np.inf]), np.float32([6000.0, np.inf]))

    def end(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return float(action[0]), bool(action[1] > 5), False


class Forgetful(Sound):
    """Draws from NumPy's global state, whatever the seed is."""

    def seen(self) -> Any:
        return np.random.normal(size=2).astype(np.float32)


class PaysAstronomically(Sound):
    def end(self, action: Any) -> Any:
        return 1e22 * (float(action) - 0.5), self.time >= 3, False


class PaysInDoublePrecision(Sound):
    def end(self, action: Any) -> Any:
        return 1e300, False, False


class Piano(Sound):
    """Takes several integers, in a shape and from a start of their own, and pays their sum."""

    action_space = spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 5], [0, 0]])

    def end(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        return float(action.sum()), False, False


class Switches(Piano):
    action_space = spaces.MultiBinary(3)


class Sized(Sound):
    def __init__(self, size: int, loud: bool = True, name: str = "a") -> None:
        assert isinstance(loud, bool)
        self.observation_space = spaces.Box(-9, 9, (size,), np.float32)


class Goal(gymnasium.Wrapper):
    """A wrapper that has the tasks."""

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.random.default_rng(seed).uniform(size=(n, 1))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.task = options["task"]
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, _, *rest = self.env.step(action)
        return observation, float(self.task[0]), *rest


def limited(limit: int = 5) -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Mute(), limit)


class Mute(Sound):
    """Ends never, and cannot go on after the fifth step."""

    def end(self, action: Any) -> Any:
        return [1.0, 2.0, 3.0, 4.0, 5.0][self.time - 1], False, False


class SpaceOfLaterOn(Sound):
    """Its space needs what `reset` makes."""

    level: Any = None

    @property
    def observation_space(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return spaces.Box(0, 1, (len(self.level),))


class Boundless(Sound):
    """With the largest floats for infinity."""

    _most = float(np.finfo(np.float32).max)
    observation_space = spaces.Box(-_most, _most, (2,), np.float32)
    action_space = spaces.Box(-_most, _most, (1,), np.float32)

    def end(self, action: Any) -> Any:
        return float(action[0]), self.time >= 3, False


class Pictures(Sound):
    """Bytes by its space, and whole numbers of 64 bits by what it gives."""

    observation_space = spaces.Box(0, 255, (8, 8, 1), np.uint8)

    def seen(self) -> Any:
        return np.full((8, 8, 1), 100 + self.time)


class Masks(Sound):
    """Real numbers by its space, and bytes by what it gives."""

    observation_space = spaces.Box(0, 1, (8, 8, 1), np.float32)

    def seen(self) -> Any:
        return np.eye(8, dtype=np.uint8)[..., None]


class Raced(Sound):
    """Rewards follow from nothing that the seed sets."""

    def end(self, action: Any) -> Any:
        return float(np.random.default_rng().random()), self.time >= 3, False


class Multiplied(Sound):
    """Starts a process by `multiprocessing`."""

    def __init__(self) -> None:
        self.process = multiprocessing.get_context("spawn").Process(target=int)
        self.process.start()

    def close(self) -> None:
        self.process.join()


def wrapped(size: int = 2) -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Goal(Sized(size)), 2)


class Prints(Sound):
    """Prints in Python, and past it."""

    def end(self, action: Any) -> Any:
        print("chatter")
        os.write(1, b"chatter\n")
        return super().end(action)


class Starts(Sound):
    """Starts a process of its own, which `close` ends."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "3600"])
        self.note(self.process.pid)

    def note(self, what: object) -> None:
        with Path(os.environ[STARTED]).open("a") as file:
            file.write(f"{what}\n")

    def close(self) -> None:
        self.note("closed")


class ComputesWithJax(Sound):
    """Also its tasks are drawn by JAX."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(np.asarray(-jnp.ones(2)), np.asarray(9 * jnp.ones(2)))

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.asarray(jax.random.uniform(jax.random.key(seed), (n, 2)))


class MovesItsGoal(Sound):
    """The task is where the goal begins."""

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.zeros((n, 2), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.goal = options["task"]
        return super().reset(seed=seed)

    def seen(self) -> Any:
        return self.goal.copy()

    def step(self, action: Any) -> Any:
        self.goal += 1.0
        return super().step(action)


class KnowsFewTasks(Sound):
    """Fails for all seeds but 0."""

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.array([[[1.0]][seed]] * n)


class Panics(Sound):
    def step(self, action: Any) -> Any:
        raise asyncio.CancelledError("no exception of the usual kind")


class NamesPartsByAllSorts(Sound):
    observation_space = spaces.Dict({1: spaces.Discrete(2), "a": spaces.Discrete(2)})


class SpecOfItsOwn(Sound):
    metadata: Any = ("human",)

    def __init__(self) -> None:
        self.spec = {"size": 3}


_KEPT = Sound()


def always_the_same() -> gymnasium.Env:
    return _KEPT
