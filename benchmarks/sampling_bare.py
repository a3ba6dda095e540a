"""One environment in a loop, in one thread, without a policy: `mj_step` itself, and Gymnasium's."""

import importlib
import os
from pathlib import Path
from typing import Any

import gymnasium
import gymnasium.envs.mujoco
import numpy as np
import sampling_busy
from sampling_problem import CHECKED, Problem, Recording

mujoco: Any = importlib.import_module("mujoco")
"""Whose names no type checker knows."""


class Physics:
    """Replays recorded episodes from where they began, by `mj_step` and nothing else; with `forces`, the
    contact forces too, as in the environments that observe them."""

    def __init__(self, problem: Problem, path: Path, forces: bool = False) -> None:
        assets = Path(str(gymnasium.envs.mujoco.__file__)).parent / "assets"
        quiet()
        self._model = mujoco.MjModel.from_xml_path(str(assets / problem.body.xml))
        self._data = mujoco.MjData(self._model)
        self._skip, self._forces = problem.body.frame_skip, forces
        played = Recording.load(path)
        chosen = np.linspace(0, len(played.lengths) - 1, problem.loop_episodes).astype(int)
        self._played = Recording(*(x[chosen] for x in played))
        low, high = self._model.actuator_ctrlrange.T
        self._controls = np.clip(self._played.actions.astype(float), low, high)
        self._unseen = problem.body.unseen

    def play(self) -> int:
        """Steps of the environment."""
        for episode, length in enumerate(self._played.lengths.tolist()):
            self._episode(episode, length)
        return int(self._played.lengths.sum())

    def difference(self) -> float:
        """The largest between positions and velocities here and as the sampler observed them, where an
        episode lasted until they are compared."""
        steps = min(CHECKED, self._controls.shape[1])
        going = np.flatnonzero(self._played.lengths >= steps).tolist()
        return max((self._differs(episode, steps) for episode in going), default=float("nan"))

    def _differs(self, episode: int, steps: int) -> float:
        self._episode(episode, steps)
        here = np.concatenate([self._data.qpos[self._unseen :], self._data.qvel])
        return float(np.abs(here - self._played.seen[episode, : len(here)]).max())

    def _episode(self, episode: int, steps: int) -> None:
        model, data, skip, step = self._model, self._data, self._skip, mujoco.mj_step
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = self._played.qpos[episode], self._played.qvel[episode]
        mujoco.mj_forward(model, data)
        control = data.ctrl
        if not self._forces:
            for action in self._controls[episode, :steps]:
                control[:] = action
                step(model, data, skip)
            return
        for action in self._controls[episode, :steps]:
            control[:] = action
            step(model, data, skip)
            mujoco.mj_rnePostConstraint(model, data)


class Loop:
    """Whole episodes of one environment of Gymnasium's interface, with actions drawn beforehand."""

    def __init__(self, name: str, steps: int, episodes: int, path: Path | None = None, work: int = 0) -> None:
        """`path` is a recording, whose actions are played; without one they are zero."""
        os.environ[sampling_busy.WORK] = str(work)
        self._env = made(name, steps)
        space: Any = self._env.action_space
        shape = episodes, steps, *space.shape
        drawn = np.zeros(shape) if path is None else Recording.load(path).actions[:episodes]
        self._actions = np.clip(drawn, space.low, space.high).astype(space.dtype)

    def play(self) -> int:
        """Steps of the environment."""
        count = 0
        for actions in self._actions:
            self._env.reset()
            for action in actions:
                count += 1
                if self._env.step(action)[2]:
                    break
        return count


def made(name: str, steps: int) -> Any:
    """An environment, and nothing around it that Gymnasium does not put there by itself."""
    if name == sampling_busy.NAME:
        return sampling_busy.Busy()
    quiet()
    return gymnasium.make(name, max_episode_steps=steps)


def quiet() -> None:
    """Models use words that MuJoCo has since given up, and it says so whenever they are loaded."""
    mujoco.set_mju_user_warning(lambda _: None)
