"""The constant baseline."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.baselines.base import AbstractBaseline, Samples
from surefoot.theory.averages import valid_mean
from surefoot.types import Key, Observations, ObservationSpace


@dataclass(frozen=True)
class Constant(AbstractBaseline):
    """V = the mean return: one number for all states (Williams, 1992)."""

    def init(self, key: Key, observation_space: ObservationSpace, horizon: int) -> Float[Array, ""]:
        del key, observation_space, horizon
        return jnp.zeros(())

    def fit(self, parameters: Float[Array, ""], samples: Samples) -> Float[Array, ""]:
        del parameters
        return valid_mean(samples.returns, samples.valid)

    def values(
        self,
        parameters: Float[Array, ""],
        observations: Observations,
        times: Float[Array, " time"],
    ) -> Float[Array, " time"]:
        del observations
        return jnp.broadcast_to(parameters, times.shape)
