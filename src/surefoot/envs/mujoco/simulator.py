"""The simulator of MuJoCo families."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt32

from surefoot.envs.mujoco.binding import mujoco
from surefoot.envs.mujoco.body import AbstractBody, Snapshot
from surefoot.envs.mujoco.physics import DataPhysics, RolloutPhysics
from surefoot.envs.simulation import AbstractResumableSimulator, Outcome, selection
from surefoot.types import Task


class MujocoSimulator(AbstractResumableSimulator):
    """Steps all rows in one call. No row depends on the others."""

    def __init__(
        self,
        body: AbstractBody,
        models: Callable[[Task, int], list[Any]],
        reward: Callable[[Snapshot, Snapshot, np.ndarray, Task], np.ndarray],
        threads: int,
    ) -> None:
        """`models` gives each row the model of its task; all of them have the shape of the body's."""
        model = body.model
        self._body, self._models_of, self._reward = body, models, reward
        self._nq, self._nv = model.nq, model.nv
        self._low, self._high = model.actuator_ctrlrange.T
        measured = body.measured
        self._physics = (
            DataPhysics(model, body.frame_skip, threads, measured)
            if measured
            else RolloutPhysics(model, body.frame_skip, threads)
        )
        data = mujoco().MjData(model)
        self._shapes: dict[str, tuple[int, ...]] = {name: getattr(data, name).shape for name in measured}
        self._sizes = [self._physics.state_size, *(math.prod(shape) for shape in self._shapes.values())]
        self._models: list[Any] = []
        self._tasks: Any = None
        self._states = np.zeros((0, self._physics.state_size))
        self._measured: dict[str, np.ndarray] = {}

    def begin(self, keys: UInt32[np.ndarray, "rows words"], tasks: Task) -> Float[np.ndarray, "rows obs"]:
        rows = len(keys)
        self._take(tasks, rows)
        self._states = np.zeros((rows, self._physics.state_size))
        self._measured = {name: np.zeros((rows, *shape)) for name, shape in self._shapes.items()}
        return self.renew(np.arange(rows), keys)

    def renew(
        self, rows: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, "n words"]
    ) -> Float[np.ndarray, "n obs"]:
        for row, words in zip(rows, keys, strict=True):
            generator = np.random.default_rng(number_of(words))
            qpos, qvel = self._body.initial(self._models[row], generator)
            self._states[row], measured = self._physics.reset(self._models[row], qpos, qvel)
            for name, value in measured.items():
                self._measured[name][row] = value
        return self._observe(self.snapshot(rows))

    def step(self, rows: Int[np.ndarray, " n"], actions: Shaped[np.ndarray, "n act"]) -> Outcome:
        controls = np.minimum(np.maximum(actions.astype(float), self._low), self._high)
        which, models, tasks = selection(rows), self._models, self._tasks
        if len(rows) < len(models) or not isinstance(which, slice):
            models = [models[row] for row in rows]
            tasks = jax.tree.map(lambda x: x[which], tasks)
        before = self.snapshot(which)
        states, measured = self._physics.advance(models, self._states[which], controls)
        after = self._seen(states, measured)
        rewards = self._reward(before, after, controls, tasks).astype(np.float32)
        self._states[which] = states
        for name, value in measured.items():
            self._measured[name][which] = value
        return Outcome(self._observe(after), rewards, self._body.terminated(after), np.zeros(len(rows), bool))

    def snapshot(self, rows: Int[np.ndarray, " n"] | slice) -> Snapshot:
        """The state of these rows; valid until they are stepped."""
        measured = {name: value[rows] for name, value in self._measured.items()}
        return self._seen(self._states[rows], measured)

    def _seen(self, states: np.ndarray, measured: dict[str, np.ndarray]) -> Snapshot:
        qpos, qvel = states[:, 1 : 1 + self._nq], states[:, 1 + self._nq : 1 + self._nq + self._nv]
        return Snapshot(qpos, qvel, measured)

    def words(self) -> int:
        return 2 * sum(self._sizes)

    def save(self) -> UInt32[np.ndarray, "rows words"]:
        rows = len(self._states)
        parts = [self._states, *(value.reshape(rows, -1) for value in self._measured.values())]
        return np.concatenate(parts, axis=1).view(np.uint32)

    def restore(self, saved: UInt32[np.ndarray, "rows words"], tasks: Task) -> None:
        self._take(tasks, len(saved))
        numbers = np.ascontiguousarray(saved).view(float)
        states, *measured = np.split(numbers, np.cumsum(self._sizes)[:-1], axis=1)
        self._states = states.copy()
        self._measured = {
            name: value.reshape(-1, *shape).copy()
            for (name, shape), value in zip(self._shapes.items(), measured, strict=True)
        }

    def use(self, threads: int) -> None:
        self._physics.use(threads)

    def close(self) -> None:
        self._physics.close()

    def _take(self, tasks: Task, rows: int) -> None:
        self._tasks = jax.tree.map(np.asarray, tasks)
        self._models = self._models_of(self._tasks, rows)

    def _observe(self, now: Snapshot) -> Float[np.ndarray, "n obs"]:
        return self._body.observe(now).astype(np.float32)


def number_of(words: UInt32[np.ndarray, " words"]) -> int:
    """A raw key as a single number."""
    return int.from_bytes(np.ascontiguousarray(words, ">u4").tobytes())
