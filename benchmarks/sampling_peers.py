"""EnvPool, and Gymnasium's processes: with actions drawn beforehand, which cost nothing, or with surefoot's
policies deciding on each step, as they do for its own samplers."""

import multiprocessing
from collections.abc import Callable
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

    def __init__(self, problem: Problem, path: Path, count: int, policies: int = 0) -> None:
        """With so many policies, or none."""
        import envpool  # pyright: ignore[reportMissingImports]

        self._make = envpool.make
        version_4 = problem.name.replace("-v5", "-v4")
        self.name = problem.name if problem.name in envpool.list_all_envs() else version_4
        self._count, self._steps, self._source = count, problem.steps, _source(problem, path, policies)

    def begin(self) -> str:
        """Makes the environments; the name of what was made."""
        self._envs = self._make(
            self.name,
            env_type="gymnasium",
            num_envs=self._count,
            num_threads=cores(),
            max_episode_steps=self._steps,
        )
        self._source.begin(self._envs.reset()[0], self._envs.action_space)
        return self.name

    def play(self) -> int:
        """Steps of the environments."""
        self._source.play(self._envs.step)
        return self._count * self._steps


class Processes:
    """`AsyncVectorEnv`, a process for each core and an environment in each, episode after episode."""

    def __init__(self, problem: Problem, path: Path, episodes: int, policies: int = 0) -> None:
        """With so many policies, or none."""
        multiprocessing.current_process().daemon = False  # a daemon may have no processes of its own
        self._problem, self._episodes, self._source = problem, episodes, _source(problem, path, policies)

    def begin(self) -> None:
        """Makes the environments."""
        make = partial(made, self._problem.name, self._problem.steps)
        self._envs = AsyncVectorEnv([make] * cores())
        self._source.begin(self._envs.reset(seed=0)[0], self._envs.single_action_space)

    def play(self) -> int:
        """Steps of the environments."""
        for _ in range(self._episodes):
            self._source.play(self._envs.step)
        return self._episodes * self._problem.steps * cores()

    def close(self) -> None:
        self._envs.close()


def _source(problem: Problem, path: Path, policies: int) -> Any:
    """Where actions come from."""
    if not policies:
        return _Recorded(path)
    from sampling_surefoot import Deciding  # a process without policies need not load JAX

    return Deciding(policies, problem.steps, problem.hidden)


class _Recorded:
    """An episode's actions, drawn beforehand."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, observations: np.ndarray, space: Any) -> None:
        """`space` is that of one action."""
        recorded = Recording.load(self._path).actions
        chosen = np.resize(recorded, (len(observations), *recorded.shape[1:]))
        clipped = np.clip(np.moveaxis(chosen, 0, 1), space.low, space.high)
        self._actions = np.ascontiguousarray(clipped.astype(space.dtype))  # [time environment act]

    def play(self, step: Callable[[np.ndarray], Any]) -> None:
        for actions in self._actions:
            step(actions)
