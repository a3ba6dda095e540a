"""The contract of families of MuJoCo tasks."""

from abc import abstractmethod
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from surefoot.envs.base import AbstractFamily
from surefoot.envs.mujoco.binding import load_model, mujoco
from surefoot.envs.mujoco.body import AbstractBody
from surefoot.envs.mujoco.snapshot import Snapshot
from surefoot.envs.simulation import AbstractSimulator
from surefoot.types import Continuous, Task


class AbstractMujocoFamily(AbstractFamily):
    """Tasks for one body. Needs the extra: `pip install 'surefoot[mujoco]'`.

    Actions are clipped to the range of the body's motors, and costs are those of the clipped action:
    Gymnasium's motors clip too, but its costs are of the action as it was given.
    """

    body: ClassVar[AbstractBody]

    @abstractmethod
    def reward(
        self, before: Snapshot, after: Snapshot, controls: Float[np.ndarray, "rows nu"], tasks: Task
    ) -> Float[np.ndarray, " rows"]:
        """What each row's step earned; `tasks` has a leading axis of rows, of NumPy's arrays."""

    def models(self, tasks: Task, rows: int) -> list[Any]:
        """The model of each row."""
        del tasks
        return [self.model] * rows

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


@lru_cache
def _observation_size(body: AbstractBody) -> int:
    data = mujoco().MjData(load_model(body.xml))
    seen = {name: np.asarray(getattr(data, name))[None] for name in body.measured}
    return body.observe(Snapshot(data.qpos[None], data.qvel[None], seen)).shape[-1]
