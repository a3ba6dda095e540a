"""Values: losses and targets by which the expected return from a state is learned.

A baseline, or the value head of an actor-critic, is fitted to targets by least squares. The targets are
returns, or rewards plus the present value of the next state. A proximal term keeps successive fits near one
another.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.theory.averages import valid_mean


def value_loss(
    values: Float[Array, "*axes"], targets: Float[Array, "*axes"], valid: Bool[Array, "*axes"]
) -> Float[Array, ""]:
    """½ (V − y)², averaged over valid steps; minimal where V(s) is the mean target of the steps at s."""
    return 0.5 * valid_mean((values - targets) ** 2, valid)


def td_targets(
    rewards: Float[Array, "*axes"], discounts: Float[Array, "*axes"], next_values: Float[Array, "*axes"]
) -> Float[Array, "*axes"]:
    """y_t = r_t + γ_t V(s_{t+1}): one reward, and V for the rest (Sutton, 1988)."""
    return rewards + discounts * next_values


def proximal_term(new: PyTree, old: PyTree) -> Float[Array, ""]:
    """‖φ − φᵢ‖², over all arrays of the parameters: the squared distance from those of the round before
    (Rockafellar, 1976)."""
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), new, old)
    return jnp.sum(jnp.stack(jax.tree.leaves(squares)))
