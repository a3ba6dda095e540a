"""The linear baseline of the MAML experiments: least squares on simple features of observation and time."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.baselines.base import AbstractBaseline, Samples
from surefoot.baselines.least_squares import ridge_regression
from surefoot.options import NonNegative, Options
from surefoot.types import Key


@dataclass(frozen=True)
class LinearFeatures(Options, AbstractBaseline):
    """V(s, t) = w · [s, s², τ, τ², τ³, 1] with τ = t/100 (Duan et al., 2016, supplement).

    w minimises Σ (w·φ − G)² over the valid steps, with a small ridge penalty. Repeated and constant features
    are allowed. If the solution is not finite, as when a return is not, every weight is NaN, so that the
    failure shows.
    """

    ridge: Annotated[float, NonNegative] = 1e-6
    """Penalty on squared weights, for each step and relative to a feature's mean square."""

    def init(self, key: Key, observation_size: int, horizon: int) -> Float[Array, " features"]:
        del key, horizon
        return jnp.zeros(2 * observation_size + 4)

    def fit(self, parameters: Float[Array, " features"], samples: Samples) -> Float[Array, " features"]:
        del parameters
        x = _features(samples.observations, samples.times)
        flat = x.reshape(-1, x.shape[-1])
        weights = ridge_regression(flat, samples.returns.reshape(-1), samples.valid.reshape(-1), self.ridge)
        return jnp.where(jnp.all(jnp.isfinite(weights)), weights, jnp.nan)

    def values(
        self,
        parameters: Float[Array, " features"],
        observations: Float[Array, "time obs"],
        times: Float[Array, " time"],
    ) -> Float[Array, " time"]:
        return _features(observations, times) @ parameters


def _features(
    observations: Float[Array, "*batch obs"], times: Float[Array, "*batch"]
) -> Float[Array, "*batch features"]:
    tau = times[..., None] / 100.0
    return jnp.concatenate([observations, observations**2, tau, tau**2, tau**3, jnp.ones_like(tau)], axis=-1)
