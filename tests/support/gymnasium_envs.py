"""Environments of a user's own, sound and unsound."""

from typing import Any, ClassVar

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


class Rendered(Goals):
    """Draws its goal as a red square, on a field that its position makes brighter."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def render(self) -> Any:
        picture = np.full((20, 30, 3), 100 + 50 * np.tanh(self.position.sum()), np.uint8)
        row = int(5 + 5 * self.goal[0])
        picture[row : row + 5, 5:10] = (200, 0, 0)
        return picture


def wrapped_and_rendered(**options: Any) -> gymnasium.Env:
    return gymnasium.wrappers.TransformReward(Rendered(**options), lambda reward: 2 * reward)


def without_pictures() -> gymnasium.Env:
    return Rendered()


class Misdrawn(Rendered):
    def render(self) -> Any:
        return super().render().astype(float)


class Changeable(ManyActions):
    """Its tasks are whole numbers for the seed 0, and halves or large numbers for others."""

    action_space = spaces.Discrete(2)

    @staticmethod
    def sample_tasks(seed: int, n: int) -> Any:
        return np.ones(n, int) if seed == 0 else np.full(n, 0.5)


class Memory(gymnasium.Env):
    """Its observations are a vector of bytes, as the memory of an Atari."""

    observation_space = spaces.Box(0, 255, (4,), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self.observation_space.sample() // 2, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.full(4, action, np.uint8), 1.0, False, False, {}


class Grid(Memory):
    """Its observations are a small table of numbers."""

    observation_space = spaces.Box(-1, 1, (3, 4))

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros((3, 4), np.float32), 1.0, False, False, {}
