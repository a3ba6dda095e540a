"""Families whose tasks differ in their dynamics."""

import copy
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from surefoot.envs.mujoco.binding import mujoco
from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.options import check
from surefoot.types import Key

Multipliers = dict[str, Float[np.ndarray, "rows ..."]]
"""Of each row's model, by the names of the model's fields."""

_BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}


class AbstractParameters(AbstractMujocoFamily):
    """One reward, and a body of random masses, inertias, damping and friction (rand_param_envs, which ProMP
    brought in: Rothfuss et al., 2019).

    Task: what the model's own numbers are multiplied by, `body_mass` `[bodies]`, `body_inertia` `[bodies 3]`,
    `dof_damping` `[dofs]` and `geom_friction` `[geoms 3]`, each 1.5 to the power of a number that is uniform
    in ±`spread`; of damping, 1.3. An inertia need not be that of any distribution of the mass, as in the
    original, which did not adapt to the new masses what MuJoCo derives from them for its contacts; here
    `mj_setConst` does.
    """

    spread: float

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")
        check(self.spread >= 0, "spread", self.spread, "0 or more")

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> dict[str, Float[Array, "{n} ..."]]:
        def draw(key: Key, name: str) -> Array:
            shape = (n, *getattr(self.model, name).shape)
            return _BASES[name] ** jax.random.uniform(key, shape, minval=-self.spread, maxval=self.spread)

        keys = jax.random.split(key, len(_BASES))
        return {name: draw(key, name) for key, name in zip(keys, _BASES, strict=True)}

    def models(self, tasks: Multipliers, rows: int) -> list[Any]:
        """One for each task: rows of equal tasks share it."""
        made: dict[bytes, Any] = {}
        return [self._model(made, {name: tasks[name][row] for name in _BASES}) for row in range(rows)]

    def _model(self, made: dict[bytes, Any], task: dict[str, np.ndarray]) -> Any:
        content = b"".join(x.tobytes() for x in task.values())
        if content not in made:
            made[content] = multiplied(self.model, task)
        return made[content]


def multiplied(model: Any, task: dict[str, Float[np.ndarray, "..."]]) -> Any:
    """A copy of the model with fields multiplied, and all that MuJoCo derives from them computed anew."""
    changed = copy.deepcopy(model)
    for name, factor in task.items():
        getattr(changed, name)[:] *= factor
    mujoco().mj_setConst(changed, mujoco().MjData(changed))
    return changed
