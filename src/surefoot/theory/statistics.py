"""Running mean and variance of observations and rewards, merged exactly (often called `running_state`)."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.types import Observations, ObservationSpace, as_space

EPSILON = 1e-8
"""Added to a variance before the square root is taken."""


class RunningStatistics(eqx.Module):
    """Count, mean and sum of squared deviations of all arrays seen so far, for each element."""

    count: Float[Array, ""]
    mean: Float[Array, "*shape"]
    squares: Float[Array, "*shape"]
    """Σ (x − mean)²."""

    @classmethod
    def empty(cls, shape: int | tuple[int, ...]) -> "RunningStatistics":
        """The statistics of no data."""
        return cls(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))

    @property
    def variance(self) -> Float[Array, "*shape"]:
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


ObservationStatistics = PyTree[RunningStatistics | None]
"""The statistics of each part of an observation; None for a part of whole numbers, such as bytes."""


def statistics_of(values: Float[Array, "..."], valid: Bool[Array, "*axes"]) -> RunningStatistics:
    """The statistics of one collection `[*axes ...]`; entries that are not `valid` do not count."""
    shape = values.shape[valid.ndim :]
    flat, counts = values.reshape(valid.size, math.prod(shape)), valid.reshape(-1, 1)
    count = jnp.sum(counts).astype(values.dtype)
    mean = jnp.sum(jnp.where(counts, flat, 0.0), axis=0) / jnp.maximum(count, 1.0)
    squares = jnp.sum(jnp.where(counts, flat - mean, 0.0) ** 2, axis=0)
    return RunningStatistics(count, mean.reshape(shape), squares.reshape(shape))


def standardise(
    values: Float[Array, "..."], statistics: RunningStatistics, limit: float
) -> Float[Array, "..."]:
    """(x − mean) / √(variance + ε), clipped to ±`limit`."""
    scaled = (values - statistics.mean) / jnp.sqrt(statistics.variance + EPSILON)
    return jnp.clip(scaled, -limit, limit)


def empty_statistics(space: ObservationSpace) -> ObservationStatistics:
    """The statistics of observations before any data."""

    def empty(part: jax.ShapeDtypeStruct) -> RunningStatistics | None:
        return RunningStatistics.empty(part.shape) if jnp.issubdtype(part.dtype, jnp.floating) else None

    return jax.tree.map(empty, as_space(space))


def merge_observations(
    statistics: ObservationStatistics, observations: Observations, valid: Bool[Array, "*axes"]
) -> ObservationStatistics:
    """The statistics with what these observations `[*axes ...]` add to them."""

    def merge(old: RunningStatistics | None, values: Array) -> RunningStatistics | None:
        return None if old is None else old.merge(statistics_of(values, valid))

    return jax.tree.map(merge, statistics, observations, is_leaf=_is_part)


def standardise_observations(
    observations: Observations, statistics: ObservationStatistics, limit: float
) -> Observations:
    """Observations whose real numbers are standardised, each part by its own statistics."""

    def scale(seen: RunningStatistics | None, values: Array) -> Array:
        return values if seen is None else standardise(values, seen, limit)

    return jax.tree.map(scale, statistics, observations, is_leaf=_is_part)


def _is_part(node: Any) -> bool:
    return node is None or isinstance(node, RunningStatistics)
