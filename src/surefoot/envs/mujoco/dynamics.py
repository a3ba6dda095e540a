"""Families whose tasks differ in their dynamics."""

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np
from jaxtyping import Array, Float

from surefoot.envs.mujoco.binding import mujoco
from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.options import NonNegative
from surefoot.types import Key

Multipliers = dict[str, Float[np.ndarray, "rows ..."]]
"""The multipliers of each row's model, by the names of the model's fields."""

_BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}


@dataclass(frozen=True)
class AbstractParams(AbstractMujocoFamily):
    """The body's plain reward, with random masses, inertias, damping and friction (rand_param_envs, which
    ProMP introduced: Rothfuss et al., 2019).

    Task: multipliers of the model's numbers, `body_mass` `[bodies]`, `body_inertia` `[bodies 3]`,
    `dof_damping` `[dofs]` and `geom_friction` `[geoms 3]`. Each is 1.5 to the power of a number that is
    uniform in ±`spread`; the base of damping is 1.3. An inertia need not be that of any distribution of the
    mass, as in the original. The original did not adapt what MuJoCo derives from the masses for its contacts;
    here `mj_setConst` does.
    """

    spread: Annotated[float, NonNegative] = 3.0
    """Largest absolute value of the multipliers' exponents."""

    def sample_tasks(self, key: Key, n: int) -> dict[str, Float[Array, "{n} ..."]]:
        def draw(key: Key, name: str) -> Array:
            shape = (n, *getattr(self.model, name).shape)
            return _BASES[name] ** jax.random.uniform(key, shape, minval=-self.spread, maxval=self.spread)

        keys = jax.random.split(key, len(_BASES))
        return {name: draw(key, name) for key, name in zip(keys, _BASES, strict=True)}

    def models(self, tasks: Multipliers, rows: int) -> list[Any]:
        """One for each task: rows of equal tasks share it."""
        made: dict[bytes, Any] = {}
        models: list[Any] = []
        for row in range(rows):
            task = {name: tasks[name][row] for name in _BASES}
            content = b"".join(x.tobytes() for x in task.values())
            if content not in made:
                made[content] = multiplied(self.model, task)
            models.append(made[content])
        return models

    def describe(self, task: dict[str, Float[np.ndarray, "..."]]) -> str:
        masses = self.model.body_mass
        return f"{(task['body_mass'] * masses).sum() / masses.sum():.2f} × the mass"


def multiplied(model: Any, task: dict[str, Float[np.ndarray, "..."]]) -> Any:
    """A copy of the model with fields multiplied, and everything that MuJoCo derives from them recomputed."""
    changed = copy.deepcopy(model)
    for name, factor in task.items():
        getattr(changed, name)[:] *= factor
    mujoco().mj_setConst(changed, mujoco().MjData(changed))
    return changed
