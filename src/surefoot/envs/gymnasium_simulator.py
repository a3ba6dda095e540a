"""The simulator of Gymnasium's environments, which checks everything that they return."""

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
    """Parallel episodes of a Gymnasium environment: one instance for each row, made when it is first needed.
    Raises `UserError` if an environment raises an exception, which is the cause, or returns values that
    cannot be learned from."""

    def __init__(self, name: str, make: Callable[[], Any], horizon: int, has_tasks: bool) -> None:
        """`has_tasks`: whether `reset` is given the task."""
        self._name, self._make, self._horizon, self._has_tasks = name, make, horizon, has_tasks
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
        episodes = [self._episodes[i] for i in rows.tolist()]
        given = _as_env_actions(episodes[0].env.action_space, actions)
        outcomes = [episode.step(action) for episode, action in zip(episodes, given, strict=True)]
        observed, rewards, terminated = zip(*outcomes, strict=True)
        observations = _float32(np.stack(observed))
        finite = np.isfinite(observations).all(axis=1)
        if not finite.all():
            bad = int(np.argmin(finite))
            episodes[bad].not_finite("step", "an observation", observations[bad])
        return Outcome(observations, np.array(rewards, np.float32), np.array(terminated))

    def close(self) -> None:
        while self._episodes:
            self._episodes.pop().env.close()

    def _task(self, row: int) -> Task:
        return jax.tree.map(lambda x: x[row], self._tasks) if self._has_tasks else None


class _Episode:
    """An instance of the environment, in one episode after another."""

    def __init__(self, name: str, env: Any, horizon: int) -> None:
        from gymnasium import spaces

        self.env, self._name, self._horizon = env, name, horizon
        self._space, self._flatten = env.observation_space, spaces.flatten
        self._box = isinstance(self._space, spaces.Box)
        self._seed, self._time, self._task = 0, 0, None

    def reset(self, seed: int, task: Task) -> Float[np.ndarray, " obs"]:
        self._seed, self._time, self._task = seed, 0, task
        options = {} if task is None else {"options": {"task": task}}
        result = self._call("reset", lambda: self.env.reset(seed=seed, **options))
        if not (isinstance(result, tuple) and len(result) == 2):
            self._wrong("reset", f"gave {_repr(result)}", "a pair (observation, info)")
        observation = _float32(self._observation("reset", result[0]))
        if not np.isfinite(observation).all():
            self.not_finite("reset", "an observation", observation)
        return observation

    def step(self, action: np.ndarray | np.generic) -> tuple[Shaped[np.ndarray, " obs"], float, bool]:
        """Observation, reward and `terminated` after an action in the environment's own form. The caller
        checks whether observations are finite, for all rows at once."""
        self._time += 1
        result = self._call("step", lambda: self.env.step(action))
        if not (isinstance(result, tuple) and len(result) == 5):
            wanted = "five things: observation, reward, terminated, truncated, info"
            self._wrong("step", f"gave {_repr(result)}", wanted)
        observation, reward, terminated, truncated, _ = result
        observation, reward = self._observation("step", observation), self._reward(reward)
        if truncated and not terminated and self._time < self._horizon:
            self._wrong(
                "step",
                f"reported `truncated` before the horizon of {self._horizon}",
                "`terminated` where nothing more can be earned; a time limit is set with --env.time-limit",
            )
        return observation, reward, bool(terminated)

    def _call(self, method: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            event = f"raised {type(error).__name__}: {error}"
            raise UserError(self._message(method, event)) from error

    def not_finite(self, method: str, what: str, values: np.ndarray) -> NoReturn:
        """Raise the error for values that are not finite in single precision."""
        self._wrong(method, f"gave {what} that is not finite: {_repr(values)}", "finite numbers")

    def _observation(self, method: str, given: Any) -> Shaped[np.ndarray, " obs"]:
        """The observation as a vector of real numbers, which may not be finite."""
        space = self._space
        if not self._box:
            given = self._call(method, lambda: self._flatten(space, given))
        elif np.shape(given) != space.shape:
            self._wrong(method, f"gave an observation of shape {np.shape(given)}", f"shape {space.shape}")
        return self._numbers(method, "an observation", given).reshape(-1)

    def _reward(self, given: Any) -> float:
        if isinstance(given, float) and abs(given) < _LARGEST:
            return float(given)  # as almost always, and much faster
        if np.size(given) != 1:
            self._wrong("step", f"gave the reward {_repr(given)}", "one number")
        reward = _float32(self._numbers("step", "a reward", np.ravel(given)))
        if not np.isfinite(reward).all():
            self.not_finite("step", "a reward", reward)
        return float(reward[0])

    def _numbers(self, method: str, what: str, given: Any) -> Shaped[np.ndarray, " n"]:
        values = np.asarray(given)
        if values.dtype.kind not in "biuf":
            self._wrong(method, f"gave {what} of dtype {values.dtype}: {_repr(given)}", "real numbers")
        return values

    def _wrong(self, method: str, event: str, wanted: str) -> NoReturn:
        raise UserError(f"{self._message(method, event)} It must give {wanted}.")

    def _message(self, method: str, event: str) -> str:
        task = "" if self._task is None else f" of the task {_repr(self._task)}"
        time = f" at step {self._time}" if method == "step" else ""
        where = f"{time} in the episode{task} with the seed {self._seed}"
        return f"{self._name}: `{method}` {event.rstrip('.')}. That was{where}."


def _as_env_actions(space: Any, actions: Shaped[np.ndarray, "n ..."]) -> np.ndarray:
    """The actions in the form of the environment's action space, clipped to its bounds."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return space.start + actions.astype(np.int64)
    return np.clip(actions.reshape(-1, *space.shape), space.low, space.high).astype(space.dtype)


def _float32(values: np.ndarray) -> Float[np.ndarray, "..."]:
    """The values in single precision; those that are too large become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def seed_of(words: UInt32[np.ndarray, " words"]) -> int:
    """A seed below 2³², which every library accepts, from the data of a key."""
    return int(np.random.SeedSequence(words.tolist()).generate_state(1)[0])


def _repr(value: Any) -> str:
    """`repr`, on one line and cut after 200 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else text[:200] + " …"
