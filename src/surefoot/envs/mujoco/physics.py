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
"""What other threads must save in a call to be worth waking: about what it takes."""


class AbstractPhysics(ABC):
    """The dynamics of models of one shape. A state is a row of numbers that everything follows from: MuJoCo's
    (time, positions, velocities, activations), and accelerations that the constraint solver starts from."""

    def __init__(self, model: Any, frame_skip: int, threads: int) -> None:
        """Of so many steps of the physics for each control step, on so many threads at most."""
        self._model, self._frame_skip, self._threads = model, frame_skip, threads
        sizes = 1, model.nq, model.nv, model.na, model.nv
        ends = np.cumsum(sizes).tolist()
        self.state_size = ends[-1]
        self._time, self._qpos, self._qvel, self._act, self._warmstart = map(slice, [0, *ends], ends)
        self._data = [mujoco.MjData(model)]
        self._row_seconds = frame_skip * _seconds_of_a_step(model)

    def use(self, threads: int) -> None:
        """At most so many of the threads, from the next call of `advance` on. Any thread may say so."""
        self._threads = threads

    def _data_for(self, rows: int) -> list[Any]:
        """One for each thread that is to advance so many rows: a single one where others are not worth
        waking."""
        threads = self._threads
        if rows * self._row_seconds * (1 - 1 / threads) <= _WAKING_SECONDS:
            return self._data[:1]
        while len(self._data) < threads:
            self._data.append(mujoco.MjData(self._model))
        return self._data[:threads]

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

    What the solver starts from are the last accelerations. It converges to the same forces from anywhere, to
    its tolerance; MuJoCo's own guess is not among what a rollout returns.
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
        """Its threads stay until it is closed; one alone is the caller's."""
        if threads not in self._pools:
            self._pools[threads] = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        return self._pools[threads]

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


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

    The solver starts from its own last guess: the steps are those of one environment alone, bit for bit.
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
        # A view is found once: to ask MuJoCo's data for it takes as long as to copy it. NumPy does the
        # copying: MuJoCo's own functions leave the lock, and must wait to have it back.
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
