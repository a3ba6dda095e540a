"""Physics: many environments advance by one control step, on persistent threads."""

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
"""The time that further threads must save in a call to be used: about the time that waking them takes."""


def _seconds_of_a_step(model: Any, steps: int = 20) -> float:
    """Approximate duration of a physics step, measured with a body at rest."""
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, steps)
    start = perf_counter()
    mujoco.mj_step(model, data, steps)
    return (perf_counter() - start) / steps


class AbstractPhysics(ABC):
    """The dynamics of models of one shape. A state is a row of numbers that determines what follows: MuJoCo's
    time, positions, velocities and activations, and the accelerations that its constraint solver starts
    from."""

    def __init__(self, model: Any, frame_skip: int, threads: int) -> None:
        """Each control step has `frame_skip` physics steps. Uses at most `threads` threads."""
        self._model, self._frame_skip, self._threads = model, frame_skip, threads
        sizes = 1, model.nq, model.nv, model.na, model.nv
        ends = np.cumsum(sizes).tolist()
        self.state_size = ends[-1]
        self._time, self._qpos, self._qvel, self._act, self._warmstart = map(slice, [0, *ends], ends)
        self._data = [mujoco.MjData(model)]
        self._row_seconds = frame_skip * _seconds_of_a_step(model)

    def use(self, threads: int) -> None:
        """Use at most `threads` threads from the next call of `advance` on. Any thread may call this."""
        self._threads = threads

    def _data_for(self, rows: int) -> list[Any]:
        """MuJoCo's data for each thread that advances `rows` rows; one where more would be no faster."""
        threads = self._threads
        if rows * self._row_seconds * (1 - 1 / threads) <= _WAKING_SECONDS:
            return self._data[:1]
        while len(self._data) < threads:
            self._data.append(mujoco.MjData(self._model))
        return self._data[:threads]

    @abstractmethod
    def reset(self, model: Any, qpos: Float[np.ndarray, " nq"], qvel: Float[np.ndarray, " nv"]) -> Any:
        """The state of a new episode, and the fields measured in it."""

    @abstractmethod
    def advance(self, models: Sequence[Any], states: State, controls: Float[np.ndarray, "rows nu"]) -> Any:
        """The states after one control step, and the fields measured in them."""

    @abstractmethod
    def close(self) -> None:
        """Ends the threads."""


class RolloutPhysics(AbstractPhysics):
    """All rows in one call of `mujoco.rollout.Rollout`, for bodies that need positions and velocities only.

    The constraint solver starts from the last accelerations, since a rollout does not return MuJoCo's own
    initial guess. From any start it converges to the same forces, to its tolerance.
    """

    def __init__(self, model: Any, frame_skip: int, threads: int) -> None:
        super().__init__(model, frame_skip, threads)
        self._pools: dict[int, Any] = {}
        self._timestep = model.opt.timestep

    def reset(self, model: Any, qpos: Float[np.ndarray, " nq"], qvel: Float[np.ndarray, " nv"]) -> Any:
        del model
        state = np.zeros(self.state_size)
        state[self._qpos], state[self._qvel] = qpos, qvel
        return state, {}

    def advance(self, models: Sequence[Any], states: State, controls: Float[np.ndarray, "rows nu"]) -> Any:
        rows, skip, size = len(states), self._frame_skip, self._warmstart.start
        path = np.empty((rows, skip, size))
        data = self._data_for(rows)
        self._pool(len(data)).rollout(
            models,
            data,
            np.ascontiguousarray(states[:, :size]),
            np.repeat(controls[:, None], skip, axis=1),
            nstep=skip,
            initial_warmstart=np.ascontiguousarray(states[:, size:]),
            state=path,
            skip_checks=True,
            chunk_size=ceil(rows / len(data)),
        )
        before = path[:, -2, self._qvel] if skip > 1 else states[:, self._qvel]
        accelerations = (path[:, -1, self._qvel] - before) / self._timestep
        return np.concatenate([path[:, -1], accelerations], axis=1), {}

    def _pool(self, threads: int) -> Any:
        """A pool whose threads stay until it is closed; a single thread is the caller's."""
        if threads not in self._pools:
            self._pools[threads] = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        return self._pools[threads]

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class DataPhysics(AbstractPhysics):
    """Row by row, on Python threads that release the GIL in MuJoCo, for bodies that need other fields of
    MuJoCo's data after a step: contact forces, inertias, positions of bodies.

    The constraint solver starts from its own last guess: the steps are those of a single environment, bit for
    bit.
    """

    def __init__(self, model: Any, frame_skip: int, threads: int, measured: tuple[str, ...]) -> None:
        super().__init__(model, frame_skip, threads)
        self._measured = measured
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mujoco")

    def reset(self, model: Any, qpos: Float[np.ndarray, " nq"], qvel: Float[np.ndarray, " nv"]) -> Any:
        data = self._data[0]
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        parts = [data.time], data.qpos, data.qvel, data.act, data.qacc_warmstart
        return np.concatenate(parts), {name: getattr(data, name).copy() for name in self._measured}

    def advance(self, models: Sequence[Any], states: State, controls: Float[np.ndarray, "rows nu"]) -> Any:
        after = np.empty_like(states)
        shapes = {name: getattr(self._data[0], name).shape for name in self._measured}
        seen = {name: np.empty((len(states), *shape)) for name, shape in shapes.items()}
        data = self._data_for(len(states))
        bounds = np.linspace(0, len(states), len(data) + 1).astype(int).tolist()

        def part(data: Any, first: int, last: int) -> None:
            own = slice(first, last)
            measured = {name: out[own] for name, out in seen.items()}
            self._step(data, models[own], states[own], controls[own], after[own], measured)

        mine, *others = zip(data, bounds, bounds[1:], strict=False)
        work = [self._pool.submit(part, *other) for other in others]
        part(*mine)
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
        measured: Mapping[str, np.ndarray],
    ) -> None:
        # Views are made once: making one takes as long as copying its numbers. NumPy copies them, because
        # MuJoCo's own functions release the GIL and must wait to get it back.
        fields = (
            (self._qpos, data.qpos),
            (self._qvel, data.qvel),
            (self._act, data.act),
            (self._warmstart, data.qacc_warmstart),
        )
        kept = [(where, view) for where, view in fields if view.size]
        views = [(out, getattr(data, name)) for name, out in measured.items()]
        ctrl, skip, forces = data.ctrl, self._frame_skip, "cfrc_ext" in measured
        for i, (model, state, control) in enumerate(zip(models, states, controls, strict=True)):
            data.time, ctrl[:] = state[0], control
            for where, view in kept:
                view[:] = state[where]
            mujoco.mj_step(model, data, skip)
            if forces:
                mujoco.mj_rnePostConstraint(model, data)
            new = after[i]
            new[0] = data.time
            for where, view in kept:
                new[where] = view
            for out, view in views:
                out[i] = view

    def close(self) -> None:
        self._pool.shutdown()
