"""The linear baseline of the MAML experiments: least squares on simple features of observation and time."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from surefoot.baselines.base import AbstractBaseline
from surefoot.options import check


@dataclass(frozen=True)
class LinearFeatures(AbstractBaseline):
    """V(s, t) = w · [s, s², τ, τ², τ³, 1] with τ = t/100 (Duan et al., 2016, supplement 1.2).

    w minimises Σ (w·φ − G)² + n·ridge·‖w‖² over the n valid steps, with features scaled to unit mean square.
    The normal matrix is factored by its eigenvectors, and directions that the data do not span are left out:
    repeated or constant features do no harm. Where the solution is not finite (a return is not), every weight
    is NaN, so that nothing is learned from it unnoticed.
    """

    ridge: float = 1e-6
    """Relative to the features' mean square."""

    def __post_init__(self) -> None:
        check(self.ridge >= 0, "ridge", self.ridge, "0 or more")

    def init(self, observation_size: int) -> Float[Array, " features"]:
        return jnp.zeros(2 * observation_size + 4)

    def fit(
        self,
        observations: Float[Array, "episode time obs"],
        returns: Float[Array, "episode time"],
        valid: Bool[Array, "episode time"],
    ) -> Float[Array, " features"]:
        episodes, steps = returns.shape
        times = jnp.broadcast_to(jnp.arange(steps, dtype=returns.dtype), (episodes, steps))
        x = jnp.where(valid[..., None], _features(observations, times), 0.0).reshape(episodes * steps, -1)
        y = jnp.where(valid, returns, 0.0).reshape(-1)
        n = jnp.maximum(jnp.sum(valid), 1).astype(x.dtype)
        scale = jnp.sqrt(jnp.sum(x**2, axis=0) / n)
        scale = jnp.where(scale > 0, scale, 1.0)
        x = x / scale
        gram = x.T @ x / n
        eigenvalues, vectors = jnp.linalg.eigh(gram)
        floor = jnp.finfo(x.dtype).eps * len(scale) * jnp.max(eigenvalues)
        inverse = jnp.where(eigenvalues > floor, 1.0 / (jnp.maximum(eigenvalues, floor) + self.ridge), 0.0)
        weights = vectors @ (inverse * (vectors.T @ (x.T @ y / n))) / scale
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
