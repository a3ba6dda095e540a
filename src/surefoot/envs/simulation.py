"""Simulators, which step parallel episodes of a family from the host, in one process."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped, UInt32

from surefoot.types import Key, Keys, Observations, Task, where_rows, with_key, without_key


class EpisodeKeys(NamedTuple):
    """The keys of an episode's randomness, the same in every sampler."""

    reset: Key
    actions: Key
    """Folded with the time for the action of each step."""
    steps: Key
    """Folded with the time for the dynamics of each step."""

    @classmethod
    def of(cls, key: Key) -> "EpisodeKeys":
        """The keys that follow from an episode's key."""
        return cls(*jax.random.split(key, 3))


class Outcome(NamedTuple):
    """The results of one action in each of some rows, as NumPy arrays."""

    observations: Observations
    rewards: Float[np.ndarray, " rows"]
    terminated: Bool[np.ndarray, " rows"]
    truncated: Bool[np.ndarray, " rows"]
    """Whether the environment itself cut the episode short before the horizon; the value of what would
    follow counts."""


def selection(rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"] | slice:
    """An index for these rows: a slice if they are consecutive, as they mostly are, since that copies
    nothing."""
    if len(rows) == 0 or rows[-1] - rows[0] != len(rows) - 1 or not (rows[1:] > rows[:-1]).all():
        return rows
    return slice(rows[0], rows[-1] + 1)


def with_rows(old: Observations, which: np.ndarray, new: Observations) -> Observations:
    """The observations with some rows, by their numbers or a mask, replaced. The old arrays stay as they are,
    since JAX may still read them."""

    def replaced(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        if len(new) == len(old):
            return new
        changed = old.copy()
        changed[which] = new
        return changed

    return jax.tree.map(replaced, old, new)


class AbstractSimulator(ABC):
    """Parallel episodes of one family, each in a row of its own. It has a state and may hold threads or
    processes, which `close` frees.

    Everything random follows from the keys, the `jax.random.key_data` of each row's episode.
    """

    is_resumable: ClassVar[bool] = False
    """Whether it has the methods of `AbstractResumableSimulator`. A simulator that wraps another one passes
    this on."""

    @abstractmethod
    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> Observations:
        """New episodes in all rows: their first observations. `tasks` has a leading axis of rows."""

    @abstractmethod
    def renew(self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]) -> Observations:
        """New episodes of the same tasks in some rows: their first observations."""

    @abstractmethod
    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n ..."]) -> Outcome:
        """One step of some rows, in the order given; the other rows stay as they are."""

    def use(self, threads: int) -> None:  # noqa: B027 (most have none)
        """Limit the number of threads in use, from the next step on. May be called from any thread, also
        during a step."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Free its threads, processes and memory."""


class AbstractResumableSimulator(AbstractSimulator):
    """A simulator whose episodes can be saved and restored: streams need one."""

    is_resumable = True

    @abstractmethod
    def words(self) -> int:
        """The length of a row of `save`, in 32-bit words; 0 if it differs from one time to the next."""

    @abstractmethod
    def save(self) -> UInt32[np.ndarray, "rows words"]:
        """The state of every row, bit for bit and without the tasks."""

    @abstractmethod
    def restore(self, saved: UInt32[np.ndarray, "rows words"], tasks: Task) -> None:
        """Continue from a saved state."""


class JaxSimulator(AbstractResumableSimulator):
    """The simulator of an environment in JAX, for samplers that work with any family.

    Each step computes every row, and keeps those that were asked for. The bytes of a state are saved as they
    are.
    """

    def __init__(self, reset: Callable[..., Any], step: Callable[..., Any]) -> None:
        def start(key: Key, task: Task) -> Any:
            return reset(EpisodeKeys.of(key).reset, task)

        def advance(key: Key, time: Array, state: PyTree, action: Array, task: Task) -> Any:
            return step(jax.random.fold_in(EpisodeKeys.of(key).steps, time), state, action, task)

        self._reset = jax.jit(jax.vmap(start))
        self._step = jax.jit(jax.vmap(advance))
        self._keys, self._times = np.zeros((0, words_of_a_key()), np.uint32), np.zeros(0, np.int32)
        self._tasks: Task = None
        self.states: PyTree = None
        """The states of all rows, with a leading axis."""

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> Observations:
        self._keys, self._times = keys.copy(), np.zeros(len(keys), np.int32)
        self._tasks = tasks
        self.states, observations = self._reset(_wrapped(self._keys), tasks)
        return jax.tree.map(np.asarray, observations)

    def renew(self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]) -> Observations:
        self._keys[rows], self._times[rows] = keys, 0
        states, observations = self._reset(_wrapped(self._keys), self._tasks)
        self._keep(states, rows)
        return _rows(observations, rows)

    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n ..."]) -> Outcome:
        all_actions = np.zeros((len(self._keys), *actions.shape[1:]), actions.dtype)
        all_actions[rows] = actions
        step = self._step(_wrapped(self._keys), self._times, self.states, all_actions, self._tasks)
        self._keep(step.state, rows)
        results = _rows((step.observation, step.reward, step.terminated), rows)
        observations, rewards, terminated = results
        outcome = Outcome(observations, rewards, terminated, np.zeros(len(rows), bool))
        self._times[rows] += 1  # only now: until there are results, JAX may still read the times
        return outcome

    def words(self) -> int:
        return 0  # known when a state has been seen

    def save(self) -> UInt32[np.ndarray, "rows words"]:
        leaves = [self._keys, self._times, *map(_on_host, jax.tree.leaves(self.states))]
        rows = len(self._keys)
        parts = [np.ascontiguousarray(x).reshape(rows, x.size // rows).view(np.uint8) for x in leaves]
        data = np.concatenate(parts, axis=1)
        return np.pad(data, ((0, 0), (0, -data.shape[1] % 4))).view(np.uint32)

    def restore(self, saved: UInt32[np.ndarray, "rows words"], tasks: Task) -> None:
        words = self._keys.shape[1]
        if self.states is None or len(self._keys) != len(saved):
            self.begin(saved[:, :words], tasks)  # for the form of a state
        self._keys, self._times = saved[:, :words].copy(), saved[:, words].astype(np.int32)
        self._tasks, data = tasks, np.ascontiguousarray(saved).view(np.uint8)
        place = 4 * (words + 1)

        def taken(leaf: Array) -> Array:
            nonlocal place
            form = _on_host(leaf)
            end = place + form.nbytes // len(saved)
            values = np.ascontiguousarray(data[:, place:end]).view(form.dtype).reshape(form.shape)
            place = end
            return with_key(values, leaf)

        self.states = jax.tree.map(taken, self.states)

    def _keep(self, states: PyTree, rows: Int[np.ndarray, " n"]) -> None:
        """Take the new states of these rows, and keep the old ones of the others."""
        moved = np.zeros(len(self._keys), bool)
        moved[rows] = True
        self.states = where_rows(moved, states, self.states)


def words_of_a_key() -> int:
    """The number of 32-bit words of a random key."""
    return jax.random.key_data(jax.random.key(0)).size


def _on_host(leaf: Array) -> np.ndarray:
    return np.asarray(without_key(leaf))


def _rows(tree: PyTree, rows: Int[np.ndarray, " n"]) -> PyTree:
    return jax.tree.map(lambda x: np.asarray(x)[rows], tree)


def _wrapped(keys: UInt32[np.ndarray, "rows words"]) -> Keys:
    return jax.random.wrap_key_data(jnp.asarray(keys))
