"""The contract of families of MuJoCo tasks, and the kinds of task that differ in their rewards."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from surefoot.envs.base import AbstractFamily
from surefoot.envs.mujoco.binding import mujoco
from surefoot.envs.mujoco.body import AbstractBody, AbstractRunner, Controls, Scalars, Snapshot
from surefoot.envs.mujoco.view import View, camera, tracking_camera
from surefoot.envs.simulation import AbstractSimulator
from surefoot.options import Options, Positive, at_least
from surefoot.types import Continuous, Key, vector

Tasks = PyTree[Shaped[np.ndarray, "rows ..."]]
"""The task of each row."""
Task = PyTree[Shaped[np.ndarray, "..."]]
Horizon = Annotated[int, at_least(1)]
PositiveFloat = Annotated[float, Positive]


@dataclass(frozen=True)
class AbstractMujocoFamily(Options, AbstractFamily):
    """Tasks for one body. Needs the extra: `pip install 'surefoot[mujoco]'`.

    Actions are clipped to the range of the body's motors, and costs are those of the clipped action:
    Gymnasium's motors clip too, but its costs are those of the action as given.

    How they differ from the papers' is in docs/guides/families.md.
    `surefoot.envs.mujoco.vector.MujocoVectorEnv` offers a family to learners of other libraries.
    """

    body: ClassVar[AbstractBody]
    releases_gil = True

    horizon: Horizon = 200
    time_limit_ends_return = True

    def reward(self, before: Snapshot, after: Snapshot, controls: Controls, tasks: Tasks) -> Scalars:
        """The reward of each row's step; by default Gymnasium's, whatever the task."""
        del tasks
        return self.body.reward(before, after, controls)

    def models(self, tasks: Tasks, rows: int) -> list[Any]:
        """The model of each row; by default the body's, which is shared."""
        del tasks
        return [self.model] * rows

    def describe(self, task: Task) -> str:
        """One task in a few words, for a picture; empty if there is only one."""
        numbers = np.concatenate([np.ravel(x) for x in jax.tree.leaves(task)])
        shown = ", ".join(f"{number:.2f}" for number in numbers[:3])
        return f"task {shown}{' …' * (len(numbers) > 3)}" if shown else ""

    def view(self, task: Task, model: Any) -> View:
        """The camera and marks of the task's video; by default the model's own camera."""
        del task
        return View(tracking_camera(model, **self.body.still_camera))

    @property
    def model(self) -> Any:
        """The body's model."""
        return self.body.model

    @property
    def dt(self) -> float:
        """Duration of one step in seconds."""
        return self.body.dt

    @property
    def observation_space(self) -> jax.ShapeDtypeStruct:
        return vector(_observation_size(self.body))

    @property
    def action_space(self) -> Continuous:
        return Continuous(self.model.nu)

    def simulator(self, threads: int) -> AbstractSimulator:
        mujoco()  # the simulator cannot even be imported without it
        from surefoot.envs.mujoco.simulator import MujocoSimulator

        return MujocoSimulator(self.body, self.models, self.reward, threads)


@dataclass(frozen=True)
class AbstractPlain(AbstractMujocoFamily):
    """The one task of Gymnasium, without content: `[0]`. Its time limit only cuts an endless task short."""

    horizon: Horizon = 1000
    time_limit_ends_return = False

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))


@dataclass(frozen=True)
class AbstractRunning(AbstractMujocoFamily):
    """Tasks that differ in where or how fast a body should move. Every step earns its `alive_bonus`."""

    body: ClassVar[AbstractRunner]  # pyright: ignore[reportIncompatibleVariableOverride]

    @abstractmethod
    def progress(self, before: Snapshot, after: Snapshot, tasks: Any) -> Scalars:
        """The reward of each row's step before bonus and costs."""

    def reward(self, before: Snapshot, after: Snapshot, controls: Controls, tasks: Tasks) -> Scalars:
        progress = self.progress(before, after, tasks)
        return progress + self.body.alive_bonus - self.body.costs(after, controls)


@dataclass(frozen=True)
class AbstractDirections(AbstractRunning):
    """Forward or backward. Task: the direction, `[]`, −1 or 1."""

    def sample_tasks(self, key: Key, n: int) -> Float[Array, " {n}"]:
        return jax.random.rademacher(key, (n,), float)

    def progress(self, before: Snapshot, after: Snapshot, tasks: Scalars) -> Scalars:
        return self.body.velocity_weight * (tasks * self.body.velocity(before, after)[:, 0])

    def describe(self, task: Float[np.ndarray, ""]) -> str:
        return "run forward →" if task > 0 else "← run backward"

    def view(self, task: Float[np.ndarray, ""], model: Any) -> View:
        arrow = np.array([float(task), 0.0])
        return View(tracking_camera(model, **self.body.still_camera), arrow=arrow)


@dataclass(frozen=True)
class AbstractVelocities(AbstractRunning):
    """At a given speed. Task: the speed in m/s, `[]`, uniform from 0 to `max_speed`."""

    max_speed: PositiveFloat = 2.0
    """Largest speed in m/s."""
    at_speed: ClassVar[float] = 0.0
    """The reward at the task's speed, before bonus and costs."""
    at_speed_per_max: ClassVar[float] = 0.0
    """Increase of `at_speed` per m/s of `max_speed`."""

    def sample_tasks(self, key: Key, n: int) -> Float[Array, " {n}"]:
        return jax.random.uniform(key, (n,), maxval=self.max_speed)

    def progress(self, before: Snapshot, after: Snapshot, tasks: Scalars) -> Scalars:
        distance = np.abs(self.body.velocity(before, after)[:, 0] - tasks)
        return self.at_speed + self.at_speed_per_max * self.max_speed - distance

    def describe(self, task: Float[np.ndarray, ""]) -> str:
        return f"run at {float(task):.2f} m/s"


@dataclass(frozen=True)
class AbstractHeadings(AbstractRunning):
    """In a direction of the plane. Task: a unit vector, `[2]`, uniform on the circle."""

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 2"]:
        angles = jax.random.uniform(key, (n,), maxval=2 * jnp.pi)
        return jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)

    def progress(self, before: Snapshot, after: Snapshot, tasks: Float[np.ndarray, "rows 2"]) -> Scalars:
        return self.body.velocity_weight * np.sum(tasks * self.body.velocity(before, after), axis=1)

    def describe(self, task: Float[np.ndarray, " 2"]) -> str:
        return f"run towards {np.degrees(np.arctan2(task[1], task[0])) % 360:.0f}°"

    def view(self, task: Float[np.ndarray, " 2"], model: Any) -> View:
        following = mujoco().mjtCamera.mjCAMERA_TRACKING
        aslant = camera(model, type=following, trackbodyid=1, elevation=-45.0, distance=4.5)
        return View(aslant, arrow=np.asarray(task, float))


@dataclass(frozen=True)
class AbstractGoals(AbstractRunning):
    """To a place. Task: its x and y in m, `[2]`, uniform in ±`goal_range`."""

    goal_range: PositiveFloat = 3.0
    """Half-width of the square of goals in m."""
    at_goal: ClassVar[float]
    """The reward at the goal, before bonus and costs."""

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 2"]:
        return jax.random.uniform(key, (n, 2), minval=-self.goal_range, maxval=self.goal_range)

    def progress(self, before: Snapshot, after: Snapshot, tasks: Float[np.ndarray, "rows 2"]) -> Scalars:
        del before
        return self.at_goal - np.abs(self.body.position(after) - tasks).sum(axis=1)

    def describe(self, task: Float[np.ndarray, " 2"]) -> str:
        return f"go to ({task[0]:.1f}, {task[1]:.1f})".replace("-", "−")

    def view(self, task: Float[np.ndarray, " 2"], model: Any) -> View:
        above = camera(model, lookat=(0, 0, 0), elevation=-60.0, distance=3.2 * self.goal_range)
        return View(above, goal=np.asarray(task, float))


@lru_cache
def _observation_size(body: AbstractBody) -> int:
    data = mujoco().MjData(body.model)
    seen = {name: np.asarray(getattr(data, name))[None] for name in body.measured}
    return body.observe(Snapshot(data.qpos[None], data.qvel[None], seen)).shape[-1]
