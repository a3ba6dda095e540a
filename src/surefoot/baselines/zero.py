"""The baseline that is zero."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.baselines.base import AbstractBaseline, Samples
from surefoot.types import Key, Observations, ObservationSpace


@dataclass(frozen=True)
class Zero(AbstractBaseline):
    """V = 0, no baseline: advantages are sums of rewards alone; with λ = 1, returns."""

    def init(self, key: Key, observation_space: ObservationSpace, horizon: int) -> None:
        del key, observation_space, horizon

    def fit(self, parameters: None, samples: Samples) -> None:
        del parameters, samples

    def values(
        self, parameters: None, observations: Observations, times: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        del parameters, observations
        return jnp.zeros_like(times)
