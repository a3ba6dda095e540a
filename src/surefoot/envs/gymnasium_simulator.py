"""The simulator of Gymnasium's environments: one for each row, and nothing of what they do is trusted."""

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt32

from surefoot.envs.simulation import AbstractSimulator, Outcome
from surefoot.options import UserError
from surefoot.types import Task

_LARGEST = float(np.finfo(np.float32).max)


class GymnasiumSimulator(AbstractSimulator):
    """Environments are made when they are needed, and kept. Raises `UserError`, with the environment's own
    exception as its cause, if one of them fails or gives what cannot be learned from."""

    def __init__(self, name: str, make: Callable[[], Any], horizon: int, tasks: bool) -> None:
        """`tasks` says whether `reset` is told the task."""
        self._name, self._make, self._horizon, self._has_tasks = name, make, horizon, tasks
        self._episodes: list[_Episode] = []
        self._tasks: Task = None

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> Float[np.ndarray, "rows obs"]:
        self._tasks = jax.tree.map(np.asarray, tasks)
        while len(self._episodes) < len(keys):
            self._episodes.append(_Episode(self._name, self._make(), self._horizon))
        return self.renew(np.arange(len(keys)), keys)

    def renew(
        self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]
    ) -> Float[np.ndarray, "n obs"]:
        pairs = zip(rows.tolist(), keys, strict=True)
        return np.stack([self._episodes[i].reset(seed_of(words), self._task(i)) for i, words in pairs])

    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n ..."]) -> Outcome:
        outcomes = [self._episodes[i].step(action) for i, action in zip(rows.tolist(), actions, strict=True)]
        observations, rewards, terminated = zip(*outcomes, strict=True)
        return Outcome(np.stack(observations), np.array(rewards, np.float32), np.array(terminated))

    def close(self) -> None:
        while self._episodes:
            self._episodes.pop().env.close()

    def _task(self, row: int) -> Task:
        return jax.tree.map(lambda x: x[row], self._tasks) if self._has_tasks else None


class _Episode:
    """One environment, in one episode after another."""

    def __init__(self, name: str, env: Any, horizon: int) -> None:
        from gymnasium import spaces

        self.env, self._name, self._horizon = env, name, horizon
        self._flatten, self._box = spaces.flatten, isinstance(env.observation_space, spaces.Box)
        self._discrete = isinstance(env.action_space, spaces.Discrete)
        self._seed, self._time, self._task = 0, 0, None

    def reset(self, seed: int, task: Task) -> Float[np.ndarray, " obs"]:
        self._seed, self._time, self._task = seed, 0, task
        told = {} if task is None else {"options": {"task": task}}
        result = self._ask("reset", lambda: self.env.reset(seed=seed, **told))
        if not (isinstance(result, tuple) and len(result) == 2):
            self._wrong("reset", f"gave {_shown(result)}", "a pair (observation, info)")
        return self._observation("reset", result[0])

    def step(self, action: np.ndarray | np.generic) -> tuple[Float[np.ndarray, " obs"], float, bool]:
        self._time += 1
        result = self._ask("step", lambda: self.env.step(self._taken(action)))
        if not (isinstance(result, tuple) and len(result) == 5):
            wanted = "five things: observation, reward, terminated, truncated, info"
            self._wrong("step", f"gave {_shown(result)}", wanted)
        observation, reward, terminated, truncated, _ = result
        seen, earned = self._observation("step", observation), self._reward(reward)
        if truncated and not terminated and self._time < self._horizon:
            self._wrong(
                "step",
                f"reported `truncated` before the horizon of {self._horizon}",
                "`terminated` where nothing more can be earned; a time limit is set with --env.time-limit",
            )
        return seen, earned, bool(terminated)

    def _taken(self, action: np.ndarray | np.generic) -> Any:
        """The action as the environment takes it."""
        space = self.env.action_space
        if self._discrete:
            return space.start + np.int64(action)
        return np.clip(action.reshape(space.shape), space.low, space.high).astype(space.dtype)

    def _ask(self, method: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            told = f"raised {type(error).__name__}: {error}"
            raise UserError(self._message(method, told)) from error

    def _observation(self, method: str, given: Any) -> Float[np.ndarray, " obs"]:
        space = self.env.observation_space
        if not self._box:
            seen = self._ask(method, lambda: self._flatten(space, given))
        elif np.shape(given) != space.shape:
            self._wrong(method, f"gave an observation of shape {np.shape(given)}", f"shape {space.shape}")
        else:
            seen = np.ravel(given)
        return self._numbers(method, "an observation", seen)

    def _reward(self, given: Any) -> float:
        if isinstance(given, float) and abs(given) < _LARGEST:
            return float(given)  # as almost always, and much faster
        if np.size(given) != 1:
            self._wrong("step", f"gave the reward {_shown(given)}", "one number")
        return float(self._numbers("step", "a reward", np.ravel(given))[0])

    def _numbers(self, method: str, what: str, given: Any) -> Float[np.ndarray, " n"]:
        values = np.asarray(given)
        if values.dtype.kind not in "biuf":
            self._wrong(method, f"gave {what} of dtype {values.dtype}: {_shown(given)}", "real numbers")
        # What single precision cannot hold becomes infinite, and is reported as that.
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            self._wrong(method, f"gave {what} that is not finite: {_shown(values)}", "finite numbers")
        return values

    def _wrong(self, method: str, told: str, wanted: str) -> NoReturn:
        raise UserError(f"{self._message(method, told)} It must give {wanted}.")

    def _message(self, method: str, told: str) -> str:
        task = "" if self._task is None else f" of the task {_shown(self._task)}"
        when = f" at step {self._time}" if method == "step" else ""
        where = f"{when} in the episode{task} with the seed {self._seed}"
        return f"{self._name}: `{method}` {told.rstrip('.')}. That was{where}."


def seed_of(words: UInt32[np.ndarray, " words"]) -> int:
    """A raw key as a seed that every library takes: below 2³²."""
    return int(np.random.SeedSequence(words.tolist()).generate_state(1)[0])


def _shown(thing: Any, longest: int = 200) -> str:
    text = " ".join(repr(thing).split())
    return text if len(text) <= longest else text[:longest] + " …"
