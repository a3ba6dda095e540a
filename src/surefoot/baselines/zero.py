"""No baseline at all."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from surefoot.baselines.base import AbstractBaseline


@dataclass(frozen=True)
class Zero(AbstractBaseline):
    """V = 0: advantages are returns."""

    def init(self, observation_size: int) -> None:
        del observation_size

    def fit(
        self,
        observations: Float[Array, "episode time obs"],
        returns: Float[Array, "episode time"],
        valid: Bool[Array, "episode time"],
    ) -> None:
        del observations, returns, valid

    def values(
        self, parameters: None, observations: Float[Array, "time obs"], times: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        del parameters, observations
        return jnp.zeros_like(times)
