"""The simulator of Gymnasium's environments, which checks everything that they return."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8, UInt32

from surefoot.envs.gymnasium_spaces import action_map, arranger, membership, observation_space
from surefoot.envs.replay import AbstractReplayedSimulator, ActionHistory
from surefoot.envs.simulation import Outcome
from surefoot.loading import FAILURES, told
from surefoot.options import UserError, shown
from surefoot.types import ActionSpace, Observations, ObservationSpace, Task

_LARGEST = float(np.finfo(np.float32).max)


class GymnasiumSimulator(AbstractReplayedSimulator):
    """Parallel episodes of a Gymnasium environment: one instance for each row, made when it is first needed.
    Raises `UserError` if an environment raises an exception, which is the cause, or returns values that
    cannot be learned from.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Any],
        *,
        has_tasks: bool,
        scaled: bool,
        horizon: int,
        actions: ActionSpace,
    ) -> None:
        """`has_tasks`: whether `reset` is given the task. `scaled`: whether the actions −1 and 1 stand for
        the bounds of the action space. `horizon`: the largest number of steps of an episode; 0 for no
        limit."""
        super().__init__(ActionHistory(horizon, actions))
        self.make = make
        """Makes a new instance of the environment."""
        self._name, self._has_tasks, self._scaled = name, has_tasks, scaled
        self._episodes: list[_Episode] = []
        self._mapped: Callable[[np.ndarray], np.ndarray] = lambda actions: actions
        self._form: ObservationSpace = None
        self._tasks: Task = None

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> Observations:
        self._tasks = jax.tree.map(np.asarray, tasks)
        while len(self._episodes) < len(keys):
            self._episodes.append(_Episode(self._name, self._made()))
        env = self._episodes[0].env
        self._mapped = action_map(env.action_space, self._scaled)
        self._form = observation_space(self._name, env.observation_space)
        self._history.begin(keys, self._tasks)
        return self.renew(np.arange(len(keys)), keys)

    def renew(self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]) -> Observations:
        self._history.renew(rows, keys)
        pairs = zip(rows.tolist(), keys, strict=True)
        return _stacked(self._form, [self._episodes[i].reset(words, self._task(i)) for i, words in pairs])

    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n ..."]) -> Outcome:
        episodes = [self._episodes[i] for i in rows.tolist()]
        # As they are saved, in double precision too.
        actions = actions.astype(self._history.dtype, copy=False)
        given = self._mapped(actions)
        self._history.add(rows, actions)
        outcomes = [episode.step(action) for episode, action in zip(episodes, given, strict=True)]
        observed, rewards, terminated, truncated = zip(*outcomes, strict=True)
        observations = _stacked(self._form, observed)
        for leaf in jax.tree.leaves(observations):
            finite = np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)
            if not finite.all():
                bad = int(np.argmin(finite))
                episodes[bad].not_finite("step", "an observation", leaf[bad])
        return Outcome(observations, np.array(rewards, np.float32), np.array(terminated), np.array(truncated))

    def pictures(self, rows: Int[np.ndarray, " n"]) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Pictures of these rows as they are now, by the environment's own `render`."""
        return [self._episodes[i].picture() for i in rows.tolist()]

    def replay(
        self, keys: UInt32[np.ndarray, "rows words"], taken: list[Shaped[np.ndarray, "_ ..."]]
    ) -> None:
        del keys
        for i, actions in enumerate(taken):
            for action in actions:
                self.step(np.array([i]), action[None])

    def close(self) -> None:
        while self._episodes:
            close_env(self._name, self._episodes.pop().env)

    def _made(self) -> Any:
        """A new instance. Raises `UserError` if it is one that steps another row's episodes already."""
        env = self.make()
        if any(env.unwrapped is episode.env.unwrapped for episode in self._episodes):
            raise UserError(
                f"{self._name} gives the same environment twice, and episodes that are played side by side "
                "would share its state. Make a new environment in every call."
            )
        return env

    def _task(self, row: int) -> Task:
        """A copy of the row's task, which the environment may change."""
        return jax.tree.map(lambda x: x[row].copy(), self._tasks) if self._has_tasks else None


class _Episode:
    """An instance of the environment, in one episode after another."""

    def __init__(self, name: str, env: Any) -> None:
        from gymnasium import spaces

        self.env, self._name = env, name
        self._space = env.observation_space
        self._arranged, self._belongs = arranger(self._space), membership(self._space)
        self._box = isinstance(self._space, spaces.Box)
        self._seed, self._time, self._task = 0, 0, None

    def reset(self, words: UInt32[np.ndarray, " words"], task: Task) -> Observations:
        seed = seed_of(words)
        self._seed, self._time, self._task = seed, 0, task
        options = {} if task is None else {"options": {"task": task}}
        result = self._call("reset", lambda: self.env.reset(seed=seed, **options))
        if not (isinstance(result, tuple) and len(result) == 2):
            self._wrong("reset", f"gave {shown(result)}", "a pair (observation, info)")
        observation = self._observation("reset", result[0])
        for leaf in jax.tree.leaves(observation):
            if not np.isfinite(single := _float32(leaf)).all():
                self.not_finite("reset", "an observation", single)
        return observation

    def step(self, action: np.ndarray | np.generic) -> tuple[Observations, float, bool, bool]:
        """Observation, reward, `terminated` and `truncated` after an action in the environment's own form.
        The caller checks whether observations are finite, for all rows at once."""
        self._time += 1
        result = self._call("step", lambda: self.env.step(action))
        if not (isinstance(result, tuple) and len(result) == 5):
            wanted = "five things: observation, reward, terminated, truncated, info"
            self._wrong("step", f"gave {shown(result)}", wanted)
        observation, reward, terminated, truncated, _ = result
        observation, reward = self._observation("step", observation), self._reward(reward)
        terminated, truncated = self._flag("terminated", terminated), self._flag("truncated", truncated)
        return observation, reward, terminated, truncated

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """The picture that `render` gives now."""
        given = self._call("render", self.env.render)
        picture = self._numbers("render", "a picture", given)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            shape = f"{picture.dtype}{list(picture.shape)}"
            self._wrong("render", f"gave {shape}", "a picture of bytes, uint8[height, width, 3]")
        return picture

    def _call(self, method: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (UserError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a panic of Rust's is no `Exception`
            raise UserError(self._message(method, f"raised {told(error)}")) from error

    def _flag(self, name: str, given: Any) -> bool:
        if isinstance(given, bool):
            return given  # as almost always
        if np.size(given) != 1 or np.asarray(given).dtype.kind not in "biu":
            self._wrong("step", f"gave the flag `{name}` as {shown(given)}", "a single boolean")
        return bool(np.ravel(given)[0])

    def not_finite(self, method: str, what: str, values: np.ndarray) -> NoReturn:
        """Raise the error for values that are not finite in single precision."""
        self._wrong(method, f"gave {what} that is not finite: {shown(values)}", "numbers finite in float32")

    def _observation(self, method: str, given: Any) -> Observations:
        """The observation in the form that policies see. Its numbers may not be finite."""
        space = self._space
        if self._box:
            given = self._numbers(method, "an observation", given)
            if given.shape != space.shape:
                self._wrong(method, f"gave an observation of shape {given.shape}", f"shape {space.shape}")
        if not self._call(method, lambda: self._belongs(given)):
            self._wrong(method, f"gave the observation {shown(given)}", f"an element of its space, {space!r}")
        arranged = self._call(method, lambda: self._arranged(given))
        return jax.tree.map(lambda x: self._numbers(method, "an observation", x), arranged)

    def _reward(self, given: Any) -> float:
        if isinstance(given, float) and abs(given) < _LARGEST:
            return float(given)  # as almost always, and much faster
        values = self._numbers("step", "a reward", given)
        if values.size != 1:
            self._wrong("step", f"gave the reward {shown(given)}", "one number")
        reward = float(_float32(values.reshape(1))[0])
        if not math.isfinite(reward):
            self.not_finite("step", "a reward", values)
        return reward

    def _numbers(self, method: str, what: str, given: Any) -> Shaped[np.ndarray, "..."]:
        try:
            values = np.asarray(given)
        except FAILURES as error:
            self._wrong(
                method, f"gave {what}, {shown(given)}, which is no array: {told(error)}", "real numbers"
            )
        if values.dtype.kind not in "biuf":
            self._wrong(method, f"gave {what} of dtype {values.dtype}: {shown(given)}", "real numbers")
        return values

    def _wrong(self, method: str, event: str, wanted: str) -> NoReturn:
        raise UserError(f"{self._message(method, event)} It must give {wanted}.")

    def _message(self, method: str, event: str) -> str:
        task = "" if self._task is None else f" of the task {shown(self._task)}"
        time = f" at step {self._time}" if method == "step" else ""
        where = f"{time} in the episode{task} with the seed {self._seed}"
        return f"{self._name}: `{method}` {event.rstrip('.')}. That was{where}."


def close_env(name: str, env: Any) -> None:
    """Closes an environment. If that fails there is a warning: nothing depends on it, and the error that it
    would hide may be what matters."""
    try:
        env.close()
    except FAILURES as error:
        warnings.warn(f"{name}: `close` raised {told(error)}.", RuntimeWarning, stacklevel=2)


def _stacked(form: ObservationSpace, rows: Sequence[Observations]) -> Observations:
    """With a leading axis of rows. Whatever the environment gives, pictures of bytes are bytes, and all else
    is in single precision."""

    def stack(part: jax.ShapeDtypeStruct, *leaves: np.ndarray) -> np.ndarray:
        stacked = np.stack(leaves)
        return stacked.astype(np.uint8, copy=False) if part.dtype == np.uint8 else _float32(stacked)

    return jax.tree.map(stack, form, *rows)


def _float32(values: np.ndarray) -> Float[np.ndarray, "..."]:
    """The values in single precision; those that are too large become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def seed_of(words: UInt32[np.ndarray, " words"]) -> int:
    """A seed below 2³², which every library accepts, from the data of a key."""
    return int(np.random.SeedSequence(words.tolist()).generate_state(1)[0])
