"""Cameras: pictures of an environment's episodes, of whatever kind it is."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from surefoot.envs.mujoco.rendering import Screen, find_backend
from surefoot.envs.simulation import AbstractSimulator
from surefoot.experiment import Config
from surefoot.experiment.evaluation import default_evaluation
from surefoot.loading import FAILURES, told
from surefoot.options import UserError
from surefoot.samplers.remote import described
from surefoot.types import Task

Picture = UInt8[np.ndarray, "height width 3"]
_STEP = 0.1
"""Seconds for which a step is shown where the environment does not say."""


class AbstractCamera(ABC):
    """Draws the episodes of a family, those of each task in a row. To be closed after use.

    A simulator records what is needed while an episode is sampled; it is drawn afterwards.
    """

    dt: float
    """Seconds of a step."""

    def __init__(self, env: Any, tasks: Task, width: int, height: int) -> None:
        """`tasks` has a leading axis; width and height are those of a picture in pixels."""
        self.env, self.tasks = env, jax.tree.map(np.asarray, tasks)
        self.dt = float(getattr(env, "dt", _STEP))
        self._size = width, height

    def task(self, row: int) -> Task:
        """The task of a row."""
        return jax.tree.map(lambda x: np.asarray(x[row]), self.tasks)

    @abstractmethod
    def record(self, simulator: Any, rows: Int[np.ndarray, " n"]) -> Sequence[Any]:
        """Records, for `draw`, these rows of a simulator as they are now; None where one cannot be drawn."""

    @abstractmethod
    def draw(self, row: int, recorded: Any) -> Picture:
        """The picture of what was recorded of a row."""

    def caption(self, row: int) -> str:
        """The row's task in words; nothing where it is empty, as that of an environment with one task."""
        task = self.task(row)
        return described(task) if any(leaf.size for leaf in jax.tree.leaves(task)) else ""

    def status(self, steps: int) -> str:
        """The progress of an episode, in words."""
        return f"step {steps}"

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Frees what it draws with."""


class BodyCamera(AbstractCamera):
    """Draws MuJoCo's bodies, from their positions."""

    def __init__(self, env: Any, tasks: Task, width: int, height: int) -> None:
        super().__init__(env, tasks, width, height)
        rows = jax.tree.leaves(self.tasks)[0].shape[0]
        self.models = list(env.models(self.tasks, rows))
        self._screens: dict[int, Screen] = {}

    def record(self, simulator: Any, rows: Int[np.ndarray, " n"]) -> Sequence[Any]:
        positions = simulator.snapshot(rows).qpos
        return [now.copy() if np.isfinite(now).all() else None for now in positions]

    def draw(self, row: int, recorded: Any) -> Picture:
        model = self.models[row]
        if id(model) not in self._screens:
            self._screens[id(model)] = Screen(model, *self._size)
        return self._screens[id(model)].draw(recorded, self.env.view(self.task(row), model))

    def caption(self, row: int) -> str:
        return self.env.describe(self.task(row))

    def status(self, steps: int) -> str:
        return f"{steps * self.dt:.2f} s"

    def close(self) -> None:
        while self._screens:
            self._screens.popitem()[1].close()


class ScreenCamera(AbstractCamera):
    """Draws environments whose simulators have pictures: Gymnasium's, which render themselves as `rgb_array`,
    and Atari's games."""

    def __init__(self, env: Any, tasks: Task, width: int, height: int) -> None:
        super().__init__(env.rendering(), tasks, width, height)
        self.dt = 1 / self.env.frames_per_second

    def record(self, simulator: Any, rows: Int[np.ndarray, " n"]) -> Sequence[Any]:
        pictures = [_fitted(picture, *self._size) for picture in simulator.pictures(rows)]
        return [zlib.compress(picture.tobytes(), 1) for picture in pictures]

    def draw(self, row: int, recorded: Any) -> Picture:
        del row
        width, height = self._size
        return np.frombuffer(zlib.decompress(recorded), np.uint8).reshape(height, width, 3)


class StateCamera(AbstractCamera):
    """Draws environments in JAX that have a method `render(state, task)`. Raises `UserError` if it fails."""

    def __init__(self, env: Any, tasks: Task, width: int, height: int) -> None:
        super().__init__(env, tasks, width, height)
        state, _ = env.reset(jax.random.key(0), jax.tree.map(jnp.asarray, self.task(0)))
        self.draw(0, state)

    def record(self, simulator: Any, rows: Int[np.ndarray, " n"]) -> Sequence[Any]:
        return [jax.tree.map(lambda x: x[i], simulator.states) for i in rows.tolist()]  # noqa: B023

    def draw(self, row: int, recorded: Any) -> Picture:
        name = getattr(self.env, "name", type(self.env).__name__)
        try:
            picture = np.asarray(self.env.render(recorded, self.task(row)))
        except FAILURES as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{name} cannot be filmed: `render` raised {told(error)}.") from error
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise UserError(
                f"{name} cannot be filmed: `render` gave {picture.dtype}{list(picture.shape)}; it must give "
                "a picture of bytes, uint8[height, width, 3]."
            )
        return _fitted(picture, *self._size)


def camera_of(config: Config) -> type[AbstractCamera]:
    """The kind of camera that films the environment. Raises `UserError` if there is none, or if nothing can
    be drawn on this machine."""
    if hasattr(config.env, "view"):
        find_backend()
        return BodyCamera
    if hasattr(config.env, "rendering"):
        config.env.rendering()  # pyright: ignore[reportAttributeAccessIssue]
        return ScreenCamera
    if hasattr(config.env, "render"):
        return StateCamera
    picture = "adaptation.png" if default_evaluation(config).steps else "learning.png"
    raise UserError(
        f"{type(config.env).__name__} cannot be filmed: videos are of MuJoCo's environments, of Gymnasium's "
        "that render `rgb_array`, of Atari's games, of gymnax's that its Visualizer draws, and of yours in "
        f"JAX with a method `render(state, task)`. See the run's picture instead: {picture} in its folder."
    )


class Recorder(AbstractSimulator):
    """A simulator that records every row at the beginning and after each step."""

    def __init__(self, camera: AbstractCamera) -> None:
        self._camera, self._simulator = camera, camera.env.simulator(1)
        self.recorded: list[list[Any]] = []
        """Records of the camera, axes `[time][row]`; of a row that ended, its end."""

    def begin(self, keys: Any, tasks: Task) -> Any:
        observations = self._simulator.begin(keys, tasks)
        self.recorded = [list(self._camera.record(self._simulator, np.arange(len(keys))))]
        return observations

    def renew(self, rows: Any, keys: Any) -> Any:
        return self._simulator.renew(rows, keys)

    def step(self, rows: Int[np.ndarray, " n"], actions: Any) -> Any:
        outcome = self._simulator.step(rows, actions)
        now = list(self.recorded[-1])
        for row, seen in zip(rows.tolist(), self._camera.record(self._simulator, rows), strict=True):
            now[row] = now[row] if seen is None else seen
        self.recorded.append(now)
        return outcome

    def close(self) -> None:
        self._simulator.close()


def _fitted(picture: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> Picture:
    """The picture in these many pixels, with white beside it if its shape is another. Small ones keep their
    pixels."""
    small = picture.shape[0] * 2 < height
    method = Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR
    return np.asarray(ImageOps.pad(Image.fromarray(picture), (width, height), method, color="white"))
