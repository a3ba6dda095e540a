"""The linear baseline of the MAML experiments: least squares on simple features of observation and time."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.baselines.base import AbstractBaseline, Samples
from surefoot.baselines.least_squares import ridge_regression
from surefoot.encoders import Encoder
from surefoot.options import NonNegative, Options, UserError
from surefoot.types import Key, Observations, ObservationSpace, as_space, is_image


@dataclass(frozen=True)
class LinearFeatures(Options, AbstractBaseline):
    """V(s, t) = w · [s, s², τ, τ², τ³, 1] with τ = t/100 (Duan et al., 2016, supplement).

    w minimises Σ (w·φ − G)² over the valid steps, with a small ridge penalty. Repeated and constant features
    are allowed. If the solution is not finite, as when a return is not, every weight is NaN, so that the
    failure shows.
    """

    ridge: Annotated[float, NonNegative] = 1e-6
    """Penalty on squared weights, for each step and relative to a feature's mean square."""

    def init(self, key: Key, observation_space: ObservationSpace, horizon: int) -> Float[Array, " features"]:
        """Raises `UserError` if a part of the observation is an image."""
        del key, horizon
        parts = jax.tree.leaves(as_space(observation_space))
        if any(map(is_image, parts)):
            raise UserError(
                "The linear-features baseline is a linear function of the observation and its square, which "
                "says nothing of an image; use --estimation.baseline value-network, time-dependent or "
                "constant, or an actor-critic, which needs none: --policy actor-critic --estimation.baseline "
                "zero."
            )
        return jnp.zeros(_count(parts))

    def fit(self, parameters: Float[Array, " features"], samples: Samples) -> Float[Array, " features"]:
        del parameters
        x = _features(samples.observations, samples.times)
        flat = x.reshape(-1, x.shape[-1])
        weights = ridge_regression(flat, samples.returns.reshape(-1), samples.valid.reshape(-1), self.ridge)
        return jnp.where(jnp.all(jnp.isfinite(weights)), weights, jnp.nan)

    def values(
        self,
        parameters: Float[Array, " features"],
        observations: Observations,
        times: Float[Array, " time"],
    ) -> Float[Array, " time"]:
        return _features(observations, times) @ parameters

    def memory_to_fit(self, observation_space: ObservationSpace, steps: int) -> int:
        features = _count(jax.tree.leaves(as_space(observation_space)))
        return 4 * features * (steps + 2 * features)  # the system with its penalty, and the triangle


def _count(parts: list[jax.ShapeDtypeStruct]) -> int:
    """The number of features of these vectors."""
    return 2 * sum(part.shape[0] for part in parts) + 4


def _features(observations: Observations, times: Float[Array, "*batch"]) -> Float[Array, "*batch features"]:
    x, tau = Encoder((None,) * len(jax.tree.leaves(observations)))(observations), times[..., None] / 100.0
    return jnp.concatenate([x, x**2, tau, tau**2, tau**3, jnp.ones_like(tau)], axis=-1)
