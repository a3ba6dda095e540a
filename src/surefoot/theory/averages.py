"""Averages over the valid steps of padded trajectories."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def valid_mean(values: Float[Array, "*axes"], valid: Bool[Array, "*axes"]) -> Float[Array, ""]:
    """Mean of `values` where `valid`; zero if nothing is valid.

    Padding is replaced before it is summed, not multiplied by zero, so that a NaN in it reaches neither the
    mean nor its gradient.
    """
    count = jnp.maximum(jnp.sum(valid), 1).astype(values.dtype)
    return jnp.sum(jnp.where(valid, values, 0.0)) / count
