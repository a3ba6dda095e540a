"""Environments of a user's own, sound and unsound."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Goals(gymnasium.Env):
    """A point on the plane, and the goal that it should reach."""

    observation_space = spaces.Dict(
        {"goal": spaces.Box(-1, 1, (2,)), "position": spaces.Box(-np.inf, np.inf, (2,))}
    )
    action_space = spaces.Box(-0.1, 0.1, (2, 1))

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return {"goal": np.random.default_rng(seed).uniform(-1, 1, (n, 2))}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.goal, self.position = options["task"]["goal"], np.zeros(2)
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.position = self.position + action[:, 0]
        return self._seen(), -np.linalg.norm(self.goal - self.position), False, False, {}

    def _seen(self) -> Any:
        return {"goal": self.goal, "position": self.position}


class NoEnv:
    pass


class Fails(gymnasium.Env):
    def __init__(self) -> None:
        raise ValueError("no walls")


class Text(gymnasium.Env):
    observation_space = spaces.Sequence(spaces.Discrete(2))
    action_space = spaces.Discrete(2)


class ManyActions(gymnasium.Env):
    observation_space = spaces.Discrete(2)
    action_space = spaces.MultiDiscrete([2, 2])


class WholeActions(gymnasium.Env):
    observation_space = spaces.Discrete(2)
    action_space = spaces.Box(0, 5, (2,), np.int64)


class TextActions(gymnasium.Env):
    observation_space = spaces.Discrete(2)
    action_space = spaces.Text(3)


class TooMany(ManyActions):
    action_space = spaces.Discrete(2)

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.zeros((n + 1, 2))


class NoTasks(ManyActions):
    action_space = spaces.Discrete(2)

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        raise KeyError("no")


class Endless(gymnasium.Env):
    """A point that is pushed for ever and remembers every push."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Box(-1, 1, (8,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.position = self.np_random.normal(size=1)
        return self.position, {}

    def step(self, action: Any) -> Any:
        self.position = 0.99 * self.position + action.sum() / 8
        return self.position, -abs(self.position[0]), False, False, {}
