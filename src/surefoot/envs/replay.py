"""Episodes as the actions that were taken in them, by which a simulator plays them again."""

import math
from abc import abstractmethod

import jax
import numpy as np
from jaxtyping import Int, Shaped, UInt32

from surefoot.envs.simulation import AbstractResumableSimulator, words_of_a_key
from surefoot.types import ActionSpace, Continuous, Task

_MOST_WORDS = 2**16
"""Words of a row up to which it has its full length from the beginning."""


class ActionHistory:
    """The key of the episode in each row, and the actions since it began, as the policy gave them.

    A saved row has the words of the key, the number of actions and the actions. All rows have the length of
    the longest episode that there can be. Where that is too long, or there is no time limit, they grow with
    the longest one that there was, by doubling.
    """

    def __init__(self, horizon: int, actions: ActionSpace) -> None:
        """`horizon`: the largest number of steps of an episode; 0 for no limit."""
        self._horizon, self._shape = horizon, actions.shape
        self.dtype = np.float32 if isinstance(actions, Continuous) else np.int32
        """The type of the actions that are saved."""
        self._of_key = words_of_a_key()
        self._header = self._of_key + 1
        """Words before the actions of a saved episode: those of its key, and the number of actions."""
        self._keys = np.zeros((0, self._of_key), np.uint32)
        self._tasks: Task = None
        self._taken: list[list[np.ndarray]] = []

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> None:
        """New episodes in all rows."""
        self._tasks = tasks
        self._keys, self._taken = keys.copy(), [[] for _ in keys]

    def renew(self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]) -> None:
        """New episodes in some rows."""
        self._keys[rows] = keys
        for row in rows.tolist():
            self._taken[row] = []

    def add(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n ..."]) -> None:
        """An action in each of these rows."""
        for row, action in zip(rows.tolist(), actions, strict=True):
            self._taken[row].append(action[None])

    def words(self) -> int:
        """The length of a saved row; 0 if it differs from one time to the next."""
        longest = self._header + self._horizon * math.prod(self._shape)
        return longest if self._horizon and longest <= _MOST_WORDS else 0

    def save(self) -> UInt32[np.ndarray, "rows words"]:
        """All rows as words."""
        taken = [self._joined(row) for row in range(len(self._keys))]
        width = self.words() or _doubled(self._header + max(x.size for x in taken))
        saved = np.zeros((len(taken), width), np.uint32)
        saved[:, : self._of_key], saved[:, self._of_key] = self._keys, [len(actions) for actions in taken]
        for row, actions in zip(saved, taken, strict=True):
            row[self._header : self._header + actions.size] = actions.reshape(-1).view(np.uint32)
        return saved

    def holds(self, saved: UInt32[np.ndarray, "rows words"], tasks: Task) -> bool:
        """Whether the rows are those that were saved, of the same tasks, whatever zeros follow their
        actions."""
        if len(saved) != len(self._keys) or not _same(tasks, self._tasks):
            return False
        longest = int(saved[:, self._of_key].max(initial=0))
        used, now = self._header + longest * math.prod(self._shape), self.save()
        return np.array_equal(saved[:, :used], now[:, :used])

    def read(self, saved: UInt32[np.ndarray, "rows words"]) -> tuple[np.ndarray, list[np.ndarray]]:
        """The keys of saved rows, `[row word]`, and the actions of each, `[time ...]`."""
        size = math.prod(self._shape)
        words = [row[self._header : self._header + row[self._of_key] * size] for row in saved]
        return saved[:, : self._of_key], [x.view(self.dtype).reshape(-1, *self._shape) for x in words]

    def _joined(self, row: int) -> Shaped[np.ndarray, "time ..."]:
        """The actions of a row, which are kept as one array from now on."""
        start = np.zeros((0, *self._shape), self.dtype)
        self._taken[row] = [np.concatenate([start, *self._taken[row]], dtype=self.dtype)]
        return self._taken[row][0]


class AbstractReplayedSimulator(AbstractResumableSimulator):
    """A simulator that saves an episode as its key and the actions since, and restores it by taking them
    again. It tells its history of every episode that it begins and of every action."""

    def __init__(self, history: ActionHistory) -> None:
        self._history = history

    @abstractmethod
    def replay(
        self, keys: UInt32[np.ndarray, "rows words"], taken: list[Shaped[np.ndarray, "_ ..."]]
    ) -> None:
        """Takes the actions of each row, whose episodes have begun with these keys."""

    def words(self) -> int:
        return self._history.words()

    def save(self) -> UInt32[np.ndarray, "rows words"]:
        return self._history.save()

    def restore(self, saved: UInt32[np.ndarray, "rows words"], tasks: Task) -> None:
        if not self._history.holds(saved, tasks):
            keys, taken = self._history.read(saved)
            self.begin(keys, tasks)
            self.replay(keys, taken)


def _same(one: Task, other: Task) -> bool:
    same = jax.tree.structure(one) == jax.tree.structure(other)
    return same and all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def _doubled(words: int) -> int:
    """A power of two that is large enough, so that programs compiled for this width serve for long."""
    return max(1024, 1 << (words - 1).bit_length())
