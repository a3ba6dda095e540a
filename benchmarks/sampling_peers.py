"""EnvPool, and Gymnasium's processes. They are given actions drawn beforehand: to evaluate a policy, which
surefoot's side does, costs them nothing."""

import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv
from harness import cores
from sampling_bare import made
from sampling_problem import Problem, Recording


class EnvPool:
    """So many environments on as many threads as there are cores. An episode that ends begins anew in the
    step that follows, which counts as one."""

    def __init__(self, problem: Problem, path: Path, count: int) -> None:
        import envpool  # pyright: ignore[reportMissingImports]

        self._make = envpool.make
        version_4 = problem.name.replace("-v5", "-v4")
        self.name = problem.name if problem.name in envpool.list_all_envs() else version_4
        self._count, self._steps, self._path = count, problem.steps, path

    def begin(self) -> str:
        """Makes the environments; the name of what was made."""
        self._envs = self._make(
            self.name,
            env_type="gymnasium",
            num_envs=self._count,
            num_threads=cores(),
            max_episode_steps=self._steps,
        )
        self._envs.reset()
        self._actions = _actions(self._path, self._count, self._envs.action_space)
        return self.name

    def play(self) -> int:
        """Steps of the environments."""
        for actions in self._actions:
            self._envs.step(actions)
        return self._count * self._steps


class Processes:
    """`AsyncVectorEnv`, a process for each core and an environment in each, episode after episode."""

    def __init__(self, problem: Problem, path: Path, episodes: int) -> None:
        multiprocessing.current_process().daemon = False  # a daemon may have no processes of its own
        self._problem, self._path, self._episodes = problem, path, episodes

    def begin(self) -> None:
        """Makes the environments."""
        make = partial(made, self._problem.name, self._problem.steps)
        self._envs = AsyncVectorEnv([make] * cores())
        self._envs.reset(seed=0)
        self._actions = _actions(self._path, cores(), self._envs.single_action_space)

    def play(self) -> int:
        """Steps of the environments."""
        for _ in range(self._episodes):
            for actions in self._actions:
                self._envs.step(actions)
        return self._episodes * self._problem.steps * cores()

    def close(self) -> None:
        self._envs.close()


def _actions(path: Path, count: int, space: Any) -> np.ndarray:
    """`[time environment act]`: recorded ones, in the range and of the kind that the environments take."""
    recorded = Recording.load(path).actions
    chosen = np.resize(recorded, (count, *recorded.shape[1:]))
    clipped = np.clip(np.moveaxis(chosen, 0, 1), space.low, space.high)
    return np.ascontiguousarray(clipped.astype(space.dtype))
