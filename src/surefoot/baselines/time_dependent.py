"""The time-dependent baseline."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.baselines.base import AbstractBaseline, Samples
from surefoot.options import UserError
from surefoot.types import Key, Observations, ObservationSpace


@dataclass(frozen=True)
class TimeDependent(AbstractBaseline):
    """V_t = the mean return from step t on, over the episodes that reached it: one number for each step of an
    episode. It is zero at steps that no episode reached. Where the return goes on after the time limit, the
    value of what follows is that of the last step."""

    def init(self, key: Key, observation_space: ObservationSpace, horizon: int) -> Float[Array, " steps"]:
        """Raises `UserError` if episodes have no time limit."""
        del key, observation_space
        if not horizon:
            raise UserError(
                "The time-dependent baseline has a number for each step of an episode, and these episodes "
                "have no time limit; use --estimation.baseline value-network."
            )
        return jnp.zeros(horizon)

    def fit(self, parameters: Float[Array, " steps"], samples: Samples) -> Float[Array, " steps"]:
        valid = samples.valid.astype(parameters.dtype)
        steps = samples.times.astype(jnp.int32)
        count = jnp.zeros_like(parameters).at[steps].add(valid)
        total = jnp.zeros_like(parameters).at[steps].add(jnp.where(samples.valid, samples.returns, 0.0))
        return total / jnp.maximum(count, 1.0)

    def values(
        self,
        parameters: Float[Array, " steps"],
        observations: Observations,
        times: Float[Array, " time"],
    ) -> Float[Array, " time"]:
        del observations
        return parameters[jnp.minimum(times.astype(jnp.int32), len(parameters) - 1)]
