"""Physics: many environments advance by one control step, on threads that stay."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float

from surefoot.envs.mujoco.binding import mujoco as load

mujoco = load()
State = Float[np.ndarray, "rows state"]
_WAKING_SECONDS = 150e-6
"""What a pool must save in a call to be worth waking: about what it takes."""


class AbstractPhysics(ABC):
    """The dynamics of models of one shape. A state is a row of numbers that everything follows from."""

    state_size: int

    @abstractmethod
    def reset(self, model: Any, qpos: Float[np.ndarray, " nq"], qvel: Float[np.ndarray, " nv"]) -> Any:
        """The state of a new episode, and what is measured in it."""

    @abstractmethod
    def advance(self, models: Sequence[Any], states: State, controls: Float[np.ndarray, "rows nu"]) -> Any:
        """The states after one control step, and what is measured in them."""

    @abstractmethod
    def close(self) -> None:
        """Ends the threads."""


class RolloutPhysics(AbstractPhysics):
    """All rows in one call of `mujoco.rollout.Rollout`, for families that observe positions and velocities.

    A state is MuJoCo's (time, positions, velocities, activations) and a guess at the accelerations to come,
    the last ones, which the constraint solver starts from. It converges to the same forces from anywhere, to
    its tolerance; MuJoCo's own guess is not among what a rollout returns.
    """

    def __init__(self, model: Any, frame_skip: int, threads: int) -> None:
        self._size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        self._velocities = slice(1 + model.nq, 1 + model.nq + model.nv)
        self.state_size = self._size + model.nv
        self._frame_skip, self._threads = frame_skip, threads
        self._alone = mujoco.rollout.Rollout(nthread=0)
        self._pool = mujoco.rollout.Rollout(nthread=threads) if threads > 1 else self._alone
        self._row_seconds = frame_skip * _seconds_of_a_step(model)
        self._data = [mujoco.MjData(model) for _ in range(threads)]
        self._timestep = model.opt.timestep

    def reset(self, model: Any, qpos: Float[np.ndarray, " nq"], qvel: Float[np.ndarray, " nv"]) -> Any:
        state = np.zeros(self.state_size)
        state[1 : 1 + model.nq], state[self._velocities] = qpos, qvel
        return state, {}

    def advance(self, models: Sequence[Any], states: State, controls: Float[np.ndarray, "rows nu"]) -> Any:
        rows, skip = len(states), self._frame_skip
        path = np.empty((rows, skip, self._size))
        saved = rows * self._row_seconds * (1 - 1 / self._threads)
        pool, data = (self._pool, self._data) if saved > _WAKING_SECONDS else (self._alone, self._data[:1])
        pool.rollout(
            models,
            data,
            np.ascontiguousarray(states[:, : self._size]),
            np.repeat(controls[:, None], skip, axis=1),
            nstep=skip,
            initial_warmstart=np.ascontiguousarray(states[:, self._size :]),
            state=path,
            skip_checks=True,
            chunk_size=ceil(rows / self._threads),
        )
        before = path[:, -2, self._velocities] if skip > 1 else states[:, self._velocities]
        accelerations = (path[:, -1, self._velocities] - before) / self._timestep
        return np.concatenate([path[:, -1], accelerations], axis=1), {}

    def close(self) -> None:
        self._pool.close()


def _seconds_of_a_step(model: Any, steps: int = 20) -> float:
    """About: of a body at rest."""
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, steps)
    start = perf_counter()
    mujoco.mj_step(model, data, steps)
    return (perf_counter() - start) / steps


class DataPhysics(AbstractPhysics):
    """Row by row, on threads of Python that step MuJoCo without its lock, for families that observe what only
    MuJoCo's data holds after a step: contact forces, inertias, positions of bodies.

    A state is all that MuJoCo integrates, its solver's guess included: the steps are those of one environment
    alone, bit for bit.
    """

    _SPEC = mujoco.mjtState.mjSTATE_INTEGRATION.value

    def __init__(self, model: Any, frame_skip: int, threads: int, measured: tuple[str, ...]) -> None:
        self.state_size = mujoco.mj_stateSize(model, self._SPEC)
        self._frame_skip, self._threads, self._measured = frame_skip, threads, measured
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mujoco")
        self._data = [mujoco.MjData(model) for _ in range(threads)]

    def reset(self, model: Any, qpos: Float[np.ndarray, " nq"], qvel: Float[np.ndarray, " nv"]) -> Any:
        data = self._data[0]
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        state = np.empty(self.state_size)
        mujoco.mj_getState(model, data, state, self._SPEC)
        return state, {name: getattr(data, name).copy() for name in self._measured}

    def advance(self, models: Sequence[Any], states: State, controls: Float[np.ndarray, "rows nu"]) -> Any:
        after = np.empty_like(states)
        shapes = {name: getattr(self._data[0], name).shape for name in self._measured}
        seen = {name: np.empty((len(states), *shape)) for name, shape in shapes.items()}
        bounds = np.linspace(0, len(states), len(self._data) + 1).astype(int).tolist()

        def part(data: Any, first: int, last: int) -> None:
            self._step(data, models, states, controls, after, seen, range(first, last))

        work = [self._pool.submit(part, *at) for at in zip(self._data, bounds, bounds[1:], strict=False)]
        for future in work:
            future.result()
        return after, seen

    def _step(
        self,
        data: Any,
        models: Sequence[Any],
        states: State,
        controls: Float[np.ndarray, "rows nu"],
        after: State,
        seen: Mapping[str, np.ndarray],
        rows: Sequence[int] | range,
    ) -> None:
        views = [(out, getattr(data, name)) for name, out in seen.items()]
        # A view is found once: to ask MuJoCo's data for it takes as long as to copy it.
        ctrl, spec, skip = data.ctrl, self._SPEC, self._frame_skip
        forces = "cfrc_ext" in seen
        for i in rows:
            model = models[i]
            mujoco.mj_setState(model, data, states[i], spec)
            ctrl[:] = controls[i]
            mujoco.mj_step(model, data, skip)
            if forces:
                mujoco.mj_rnePostConstraint(model, data)
            mujoco.mj_getState(model, data, after[i], spec)
            for out, view in views:
                out[i] = view

    def close(self) -> None:
        self._pool.shutdown()
