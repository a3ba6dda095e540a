"""Importance weights: what data drawn by one policy says about another."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def likelihood_ratio(
    log_prob: Float[Array, "*axes"], old_log_prob: Float[Array, "*axes"]
) -> Float[Array, "*axes"]:
    """ρ = π(a|s) / π_old(a|s), from log-probabilities summed over action dimensions."""
    return jnp.exp(log_prob - old_log_prob)
