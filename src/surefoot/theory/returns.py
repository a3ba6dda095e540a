"""Returns: discounted sums of a trajectory's rewards, from its start and from each of its steps.

`rewards[t]` = r_t follows action a_t, and `discounts[t]` = γ_t is the factor of everything after
it. γ_t is zero at the step that ends a trajectory for good and γ elsewhere, so no formula needs a "done".
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def reward_to_go(
    rewards: Float[Array, " time"],
    discounts: Float[Array, " time"],
    final_value: Float[Array, ""] | float = 0.0,
) -> Float[Array, " time"]:
    """G_t = r_t + γ_t G_{t+1}, with G_T = `final_value` (the bootstrap).

    Each action is credited with the rewards after it, not with those before (causality); Sutton & Barto
    (2018), eq. 3.9.
    """

    def backward(g_tp1: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        r_t, discount_t = step
        g_t = r_t + discount_t * g_tp1
        return g_t, g_t

    start = jnp.asarray(final_value, rewards.dtype)
    _, returns = jax.lax.scan(backward, start, (rewards, discounts), reverse=True)
    return returns


def discounted_return(rewards: Float[Array, " time"], discounts: Float[Array, " time"]) -> Float[Array, ""]:
    """R = Σ_t (Π_{k<t} γ_k) r_t, the return of the whole trajectory: the first of its rewards-to-go."""
    return reward_to_go(rewards, discounts)[0]
