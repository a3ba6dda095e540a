"""The contract of families of MuJoCo tasks, and what those have in common whose tasks are of one kind."""

from abc import abstractmethod
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from surefoot.envs.base import AbstractFamily
from surefoot.envs.mujoco.binding import load_model, mujoco
from surefoot.envs.mujoco.body import AbstractBody
from surefoot.envs.mujoco.snapshot import Snapshot
from surefoot.envs.simulation import AbstractSimulator
from surefoot.options import check
from surefoot.types import Continuous, Key

Tasks = PyTree[Shaped[np.ndarray, "rows ..."]]
"""The task of each row."""


class AbstractMujocoFamily(AbstractFamily):
    """Tasks for one body. Needs the extra: `pip install 'surefoot[mujoco]'`.

    Actions are clipped to the range of the body's motors, and costs are those of the clipped action:
    Gymnasium's motors clip too, but its costs are of the action as it was given.

    Learners of other libraries can have them as `surefoot.envs.mujoco.vector.MujocoVectorEnv`.
    """

    body: ClassVar[AbstractBody]
    releases_gil = True

    @abstractmethod
    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: Tasks
    ) -> Float[np.ndarray, " rows"]:
        """What each row's step earned."""

    @abstractmethod
    def models(self, tasks: Tasks, rows: int) -> list[Any]:
        """The model of each row."""

    @property
    def model(self) -> Any:
        """The body's, as it is in Gymnasium. Not to be changed."""
        return load_model(self.body.xml)

    @property
    def dt(self) -> float:
        """Seconds from one step to the next."""
        return self.model.opt.timestep * self.body.frame_skip

    @property
    def observation_size(self) -> int:
        return _observation_size(self.body)

    @property
    def action_space(self) -> Continuous:
        return Continuous(self.model.nu)

    def simulator(self, threads: int) -> AbstractSimulator:
        mujoco()  # the simulator cannot even be imported without it
        from surefoot.envs.mujoco.simulator import MujocoSimulator

        return MujocoSimulator(self.body, self.model, self.models, self.reward, threads)


class AbstractRewards(AbstractMujocoFamily):
    """Tasks that differ in their rewards alone, if at all."""

    def models(self, tasks: Tasks, rows: int) -> list[Any]:
        del tasks
        return [self.model] * rows


class AbstractPlain(AbstractRewards):
    """One task, without content: `[0]`. Its time limit only cuts short what has no end."""

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")

    @property
    def time_limit_ends_return(self) -> bool:
        return False

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))


class AbstractDirections(AbstractRewards):
    """Forward or backward. Task: the direction, `[]`, −1 or 1."""

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> Float[Array, " {n}"]:
        return jax.random.rademacher(key, (n,), float)


class AbstractVelocities(AbstractRewards):
    """At a given speed. Task: the speed in m/s, `[]`, uniform from 0 to `max_speed`."""

    max_speed: float

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")
        check(self.max_speed > 0, "max_speed", self.max_speed, "above 0")

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> Float[Array, " {n}"]:
        return jax.random.uniform(key, (n,), maxval=self.max_speed)


class AbstractHeadings(AbstractRewards):
    """In a direction of the plane. Task: a unit vector, `[2]`, uniform on the circle."""

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 2"]:
        angles = jax.random.uniform(key, (n,), maxval=2 * jnp.pi)
        return jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)


@lru_cache
def _observation_size(body: AbstractBody) -> int:
    data = mujoco().MjData(load_model(body.xml))
    seen = {name: np.asarray(getattr(data, name))[None] for name in body.measured}
    return body.observe(Snapshot(data.qpos[None], data.qvel[None], seen)).shape[-1]
