"""Games of the Atari 2600 (Bellemare et al., 2013), by ale-py's vector environment."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped, UInt8, UInt32

from surefoot.envs.base import AbstractFamily
from surefoot.envs.gymnasium_simulator import seed_of
from surefoot.envs.replay import AbstractReplayedSimulator, ActionHistory
from surefoot.envs.simulation import Outcome, selection
from surefoot.options import Fraction, Options, UserError, at_least, import_extra, suggestion
from surefoot.types import Discrete, Key, ObservationSpace, Task

_FRAMES, _PIXELS, _STACKED = 4, 84, 4
_NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Atari(Options, AbstractFamily):
    """A game of the Atari 2600, with the usual preprocessing (Mnih et al., 2015; Machado et al., 2018).

    Requires the extra: `pip install 'surefoot[atari]'`; the games come with it. An observation is the last 4
    pictures of 84 × 84 grey pixels, bytes `[84 84 4]`. A step is 4 frames with the same action; its picture
    is the maximum of the last two. An episode begins with a random number of idle frames, and with the action
    that starts the game where there is one. There is one task, an empty array `[0]`.

    Where Gymnasium's wrappers clip rewards to −1, 0 and 1, here they are the game's score unless
    `clip_rewards` is set: returns are then scores, and `--normalisation.rewards` brings them to one scale.

    Everything that needs ale-py raises `UserError` if it is not installed, or if there is no such game.
    """

    name: str = "Pong-v5"
    """The game: `Pong-v5`, `ALE/MsPacman-v5`, or the name of its ROM such as `ms_pacman`."""
    time_limit: Annotated[int | None, at_least(1)] = None
    """Number of steps after which an episode is truncated; none for no limit. Whole episodes of pictures need
    much memory: a step is 28 KiB."""
    sticky_actions: Annotated[float, Fraction] = 0.25
    """Probability that a frame repeats the action before in place of the one that was chosen."""
    idle_frames: Annotated[int, at_least(0)] = 30
    """Largest number of frames without an action at the beginning of an episode."""
    clip_rewards: bool = False
    """Give the sign of each reward in place of the score."""
    life_ends_episode: bool = False
    """End an episode when a life is lost, in place of when the game is over."""
    all_actions: bool = False
    """Offer all 18 actions, also those that do nothing in the game."""
    time_limit_ends_return = False

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """The time limit; 0 if there is none."""
        return self.time_limit or 0

    @property
    def observation_space(self) -> ObservationSpace:
        return jax.ShapeDtypeStruct((_PIXELS, _PIXELS, _STACKED), np.uint8)

    @property
    def action_space(self) -> Discrete:
        return Discrete(_number_of_actions(_rom(self.name), self.all_actions))

    def sample_tasks(self, key: Key, n: int) -> Task:
        del key
        return jnp.zeros((n, 0))

    def simulator(self, threads: int) -> "AtariSimulator":
        make = partial(self._game, threads)
        return AtariSimulator(make, ActionHistory(self.horizon, self.action_space))

    def rendering(self) -> "FilmedAtari":
        """The same game, whose simulator also has pictures in colour."""
        return FilmedAtari(**{field.name: getattr(self, field.name) for field in fields(self)})

    def _game(self, threads: int, rows: int, **options: Any) -> Any:
        return _vector_env(
            _rom(self.name),
            rows,
            num_threads=threads,
            max_num_frames_per_episode=_NO_LIMIT,  # the sampler counts
            repeat_action_probability=self.sticky_actions,
            noop_max=self.idle_frames,
            reward_clipping=self.clip_rewards,
            episodic_life=self.life_ends_episode,
            full_action_space=self.all_actions,
            **options,
        )


class FilmedAtari(Atari):
    """A game whose simulator also has pictures in colour, as the screen shows them."""

    frames_per_second: ClassVar[float] = 60 / _FRAMES
    """The number of steps in a second of the console."""

    def _game(self, threads: int, rows: int, **options: Any) -> Any:
        screen = {"img_height": 210, "img_width": 160, "stack_num": 1, "grayscale": False}
        make = partial(super()._game, threads, rows, **options)
        return _Filmed(make(), make(**screen))


class AtariSimulator(AbstractReplayedSimulator):
    """Parallel episodes of a game, all stepped in one call by ale-py's threads.

    Rows whose episode has ended go on idly until they are renewed; of the others, all must be stepped
    together.
    """

    def __init__(self, make: Callable[[int], Any], history: ActionHistory) -> None:
        """`make` makes a vector environment with a given number of rows."""
        super().__init__(history)
        self._make = make
        self._env: Any = None
        self._rows = 0

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> UInt8[np.ndarray, "rows ..."]:
        if self._rows != len(keys):
            self.close()
            self._env, self._rows = self._make(len(keys)), len(keys)
        self._history.begin(keys, tasks)
        return self.renew(np.arange(len(keys)), keys)

    def renew(
        self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]
    ) -> UInt8[np.ndarray, "n ..."]:
        self._history.renew(rows, keys)
        order = np.argsort(rows)  # the seeds of a mask are in the order of the rows
        seeds = np.array([seed_of(words) >> 1 for words in keys[order]], np.int32)  # below 2³¹
        options = {"reset_mask": np.isin(np.arange(self._rows), rows)}
        observations, _ = self._env.reset(seed=seeds, options=options)
        return _as_channels(observations)[rows]

    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, " n"]) -> Outcome:
        self._history.add(rows, actions)
        which, every = selection(rows), np.zeros(self._rows, np.int32)
        every[which] = actions
        observations, rewards, terminated, truncated, _ = self._env.step(every)
        results = (_as_channels(observations), rewards.astype(np.float32), terminated, truncated)
        return Outcome(*(x[which] for x in results))

    def pictures(self, rows: Int[np.ndarray, " n"]) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Pictures of these rows as they are now; a simulator of `FilmedAtari` has them."""
        return list(self._env.pictures[rows])

    def replay(
        self, keys: UInt32[np.ndarray, "rows words"], taken: list[Shaped[np.ndarray, "_ ..."]]
    ) -> None:
        """Plays the episodes side by side: the shorter ones begin later, and all end together."""
        lengths = np.array([len(actions) for actions in taken])
        starts = lengths.max(initial=0) - lengths
        for time in range(lengths.max(initial=0)):
            due = np.flatnonzero(starts == time)
            if time and len(due):
                self.renew(due, keys[due])
            rows = np.flatnonzero(starts <= time)
            self.step(rows, np.array([taken[row][time - starts[row]] for row in rows], np.int32))
        unstepped = np.flatnonzero(lengths == 0)
        if len(unstepped):
            self.renew(unstepped, keys[unstepped])

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env, self._rows = None, 0


class _Filmed:
    """A vector environment beside a second one that plays the same episodes in colour: both have the same
    seeds and actions."""

    def __init__(self, env: Any, screen: Any) -> None:
        self._env, self._screen = env, screen
        self.pictures: UInt8[np.ndarray, "rows height width 3"]

    def reset(self, **arguments: Any) -> Any:
        self.pictures = self._screen.reset(**arguments)[0][:, 0]
        return self._env.reset(**arguments)

    def step(self, actions: Int[np.ndarray, " rows"]) -> Any:
        self.pictures = self._screen.step(actions)[0][:, 0]
        return self._env.step(actions)

    def close(self) -> None:
        self._screen.close()
        self._env.close()


def _as_channels(
    stacked: UInt8[np.ndarray, "rows stack height width"],
) -> UInt8[np.ndarray, "rows height width stack"]:
    """The pictures as channels; one after another, which is five times as fast as moving the axis."""
    rows, count, height, width = stacked.shape
    pictures = np.empty((rows, height, width, count), np.uint8)
    for channel in range(count):
        pictures[..., channel] = stacked[:, channel]
    return pictures


def _rom(name: str) -> str:
    """The name of a game's ROM: `ms_pacman` of `ALE/MsPacman-v5`. Raises `UserError` if there is none."""
    known = {rom.replace("_", ""): rom for rom in _ale().roms.get_all_rom_ids()}
    letters = re.sub(r"-v\d+$", "", name.removeprefix("ALE/")).replace("_", "").lower()
    if letters in known:
        return known[letters]
    alike = suggestion(letters, known)
    raise UserError(f"There is no game {name!r}.{alike} It is named as `Pong-v5`.")


@lru_cache
def _number_of_actions(rom: str, every: bool) -> int:
    env = _vector_env(rom, 1, full_action_space=every)
    try:
        return int(env.single_action_space.n)
    finally:
        env.close()


def _vector_env(rom: str, rows: int, **options: Any) -> Any:
    sizes = {"img_height": _PIXELS, "img_width": _PIXELS, "stack_num": _STACKED, "frameskip": _FRAMES}
    return _ale().vector_env.AtariVectorEnv(rom, rows, **(sizes | options))


def _ale() -> Any:
    import_extra("ale_py.vector_env", "Atari games need ale-py", "atari")
    return importlib.import_module("ale_py")
