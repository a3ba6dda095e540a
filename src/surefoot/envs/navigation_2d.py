"""2-D navigation (Finn et al., 2017, sec. 5.3)."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import Options, Positive, at_least
from surefoot.types import Continuous, Key, ObservationSpace, vector

_MAX_VELOCITY = 0.1
_REACHED = 0.01


@dataclass(frozen=True)
class Navigation2D(Options, AbstractEnv):
    """Navigation of a point on the plane to a goal that is not observed. The observation is the position,
    which is the origin at first.

    Task: the goal, `[2]`, uniform on the square of half-width `goal_range`. Action: the velocity, clipped to
    ±0.1 in each axis. Reward: −‖position − goal‖ after the move. The episode terminates within 0.01 of the
    goal in both axes.
    """

    horizon: Annotated[int, at_least(1)] = 100
    """Maximal number of steps in an episode."""
    goal_range: Annotated[float, Positive] = 0.5
    """Half-width of the square of goals, in units of position."""
    has_goals_on_a_plane = True
    time_limit_ends_return = True

    @property
    def observation_space(self) -> ObservationSpace:
        return vector(2)

    @property
    def action_space(self) -> Continuous:
        return Continuous(2)

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 2"]:
        return jax.random.uniform(key, (n, 2), minval=-self.goal_range, maxval=self.goal_range)

    def reset(self, key: Key, task: Float[Array, "2"]) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        del key
        start = jnp.zeros_like(task)
        return start, start

    def step(
        self, key: Key, state: Float[Array, "2"], action: Float[Array, "2"], task: Float[Array, "2"]
    ) -> Step:
        del key
        position = state + jnp.clip(action, -_MAX_VELOCITY, _MAX_VELOCITY)
        offset = position - task
        reached: Bool[Array, ""] = jnp.all(jnp.abs(offset) < _REACHED)
        return Step(position, position, -jnp.linalg.norm(offset), reached)
