"""Values: losses and targets by which the expected return from a state is learned.

A baseline, or the value head of an actor-critic, is fitted to targets by least squares. The targets are
returns, or rewards plus the present value of the next state. A proximal term keeps successive fits near one
another.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.theory.averages import valid_mean
from surefoot.theory.returns import reward_to_go


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


def lambda_returns(
    rewards: Float[Array, " time"],
    discounts: Float[Array, " time"],
    next_values: Float[Array, " time"],
    decay: Float[Array, " time"],
) -> Float[Array, " time"]:
    """R_t = r_t + γ_t ((1 − λ_t) V(s_{t+1}) + λ_t R_{t+1}): λ = 0 gives `td_targets`, λ = 1 the return
    (Sutton, 1988).

    `decay[t]` = λ_t must be zero at the last step of a trajectory that was cut short, as in `gae`, which is
    this less V(s_t). Padding must be masked by the caller.
    """
    return reward_to_go(td_targets(rewards, discounts * (1 - decay), next_values), discounts * decay)


def value_change(
    values: Float[Array, "*axes"], old_values: Float[Array, "*axes"], valid: Bool[Array, "*axes"]
) -> Float[Array, ""]:
    """(V − V_old)², averaged over valid steps: the proximal term of values whose parameters are shared with a
    policy."""
    return valid_mean((values - old_values) ** 2, valid)


def proximal_term(new: PyTree, old: PyTree) -> Float[Array, ""]:
    """‖φ − φᵢ‖², over all arrays of the parameters: the squared distance from those of the round before
    (Rockafellar, 1976)."""
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), new, old)
    return jnp.sum(jnp.stack(jax.tree.leaves(squares)))
