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
        episodes = [self._episodes[i] for i in rows.tolist()]
        taken = _taken(episodes[0].env.action_space, actions)
        outcomes = [episode.step(action) for episode, action in zip(episodes, taken, strict=True)]
        seen, rewards, terminated = zip(*outcomes, strict=True)
        observations = _single(np.stack(seen))
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
    """One environment, in one episode after another."""

    def __init__(self, name: str, env: Any, horizon: int) -> None:
        from gymnasium import spaces

        self.env, self._name, self._horizon = env, name, horizon
        self._space, self._flatten = env.observation_space, spaces.flatten
        self._box = isinstance(self._space, spaces.Box)
        self._seed, self._time, self._task = 0, 0, None

    def reset(self, seed: int, task: Task) -> Float[np.ndarray, " obs"]:
        self._seed, self._time, self._task = seed, 0, task
        told = {} if task is None else {"options": {"task": task}}
        result = self._ask("reset", lambda: self.env.reset(seed=seed, **told))
        if not (isinstance(result, tuple) and len(result) == 2):
            self._wrong("reset", f"gave {_shown(result)}", "a pair (observation, info)")
        seen = _single(self._observation("reset", result[0]))
        if not np.isfinite(seen).all():
            self.not_finite("reset", "an observation", seen)
        return seen

    def step(self, action: np.ndarray | np.generic) -> tuple[Shaped[np.ndarray, " obs"], float, bool]:
        """`action` is as the environment takes it. Whether the observation's numbers are finite is for the
        caller to see, who sees many at once."""
        self._time += 1
        result = self._ask("step", lambda: self.env.step(action))
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

    def _ask(self, method: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            told = f"raised {type(error).__name__}: {error}"
            raise UserError(self._message(method, told)) from error

    def not_finite(self, method: str, what: str, values: np.ndarray) -> NoReturn:
        """Raises the error that what it gave is not finite, in single precision."""
        self._wrong(method, f"gave {what} that is not finite: {_shown(values)}", "finite numbers")

    def _observation(self, method: str, given: Any) -> Shaped[np.ndarray, " obs"]:
        """Real numbers of the right form, whatever their values."""
        space = self._space
        if not self._box:
            given = self._ask(method, lambda: self._flatten(space, given))
        elif np.shape(given) != space.shape:
            self._wrong(method, f"gave an observation of shape {np.shape(given)}", f"shape {space.shape}")
        return self._numbers(method, "an observation", given).reshape(-1)

    def _reward(self, given: Any) -> float:
        if isinstance(given, float) and abs(given) < _LARGEST:
            return float(given)  # as almost always, and much faster
        if np.size(given) != 1:
            self._wrong("step", f"gave the reward {_shown(given)}", "one number")
        earned = _single(self._numbers("step", "a reward", np.ravel(given)))
        if not np.isfinite(earned).all():
            self.not_finite("step", "a reward", earned)
        return float(earned[0])

    def _numbers(self, method: str, what: str, given: Any) -> Shaped[np.ndarray, " n"]:
        values = np.asarray(given)
        if values.dtype.kind not in "biuf":
            self._wrong(method, f"gave {what} of dtype {values.dtype}: {_shown(given)}", "real numbers")
        return values

    def _wrong(self, method: str, told: str, wanted: str) -> NoReturn:
        raise UserError(f"{self._message(method, told)} It must give {wanted}.")

    def _message(self, method: str, told: str) -> str:
        task = "" if self._task is None else f" of the task {_shown(self._task)}"
        when = f" at step {self._time}" if method == "step" else ""
        where = f"{when} in the episode{task} with the seed {self._seed}"
        return f"{self._name}: `{method}` {told.rstrip('.')}. That was{where}."


def _taken(space: Any, actions: Shaped[np.ndarray, "n ..."]) -> np.ndarray:
    """The actions as the environment takes them."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return space.start + actions.astype(np.int64)
    return np.clip(actions.reshape(-1, *space.shape), space.low, space.high).astype(space.dtype)


def _single(values: np.ndarray) -> Float[np.ndarray, "..."]:
    """In single precision. What that cannot hold becomes infinite, and is reported as that."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def seed_of(words: UInt32[np.ndarray, " words"]) -> int:
    """A raw key as a seed that every library takes: below 2³²."""
    return int(np.random.SeedSequence(words.tolist()).generate_state(1)[0])


def _shown(thing: Any, longest: int = 200) -> str:
    text = " ".join(repr(thing).split())
    return text if len(text) <= longest else text[:longest] + " …"
