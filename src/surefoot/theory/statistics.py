"""Running mean and variance of observations and rewards, merged exactly (often called `running_state`)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class RunningStatistics(eqx.Module):
    """Count, mean and sum of squared deviations of all vectors seen so far, for each element."""

    count: Float[Array, ""]
    mean: Float[Array, " size"]
    squares: Float[Array, " size"]
    """Σ (x − mean)²."""

    @classmethod
    def empty(cls, size: int) -> "RunningStatistics":
        """The statistics of no data."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))

    @property
    def variance(self) -> Float[Array, " size"]:
        """Σ (x − mean)² / n; one before any data."""
        return jnp.where(self.count > 0, self.squares / jnp.maximum(self.count, 1.0), 1.0)

    def merge(self, other: "RunningStatistics") -> "RunningStatistics":
        """The statistics of both collections together, exactly: Chan, Golub & LeVeque (1979).

        n = n_a + n_b, μ = μ_a + (μ_b − μ_a) n_b/n, S = S_a + S_b + (μ_b − μ_a)² n_a n_b/n. The order in which
        collections are merged makes no difference, except for rounding.
        """
        count = self.count + other.count
        part = other.count / jnp.maximum(count, 1.0)
        distance = other.mean - self.mean
        squares = self.squares + other.squares + distance**2 * self.count * part
        return RunningStatistics(count, self.mean + distance * part, squares)


def statistics_of(values: Float[Array, "*axes size"], valid: Bool[Array, "*axes"]) -> RunningStatistics:
    """The statistics of one collection; entries that are not `valid` do not count."""
    size = values.shape[-1]
    flat, counts = values.reshape(-1, size), valid.reshape(-1, 1)
    count = jnp.sum(counts).astype(values.dtype)
    mean = jnp.sum(jnp.where(counts, flat, 0.0), axis=0) / jnp.maximum(count, 1.0)
    return RunningStatistics(count, mean, jnp.sum(jnp.where(counts, flat - mean, 0.0) ** 2, axis=0))


def standardise(
    values: Float[Array, "*axes size"], statistics: RunningStatistics, limit: float, epsilon: float = 1e-8
) -> Float[Array, "*axes size"]:
    """(x − mean) / √(variance + ε), clipped to ±`limit`."""
    scaled = (values - statistics.mean) / jnp.sqrt(statistics.variance + epsilon)
    return jnp.clip(scaled, -limit, limit)
