"""Importance weights, with which data of one policy estimate expectations under another.

`log_ratios[t]` = log π(a_t|s_t) − log π_old(a_t|s_t), zero in padding, so that every product below keeps its
value there. The weights differ in how many of the ratios ρ_t = exp(log ratio) they contain:

| weight | of | unbiased | variance grows with |
|---|---|---|---|
| `trajectory_weight` | the whole trajectory | yes | the horizon |
| `per_decision_weights` | each step, by its past | yes | the time so far |
| `likelihood_ratio` | each step alone | no | – |

At π = π_old every weight is one, and the gradients of the weighted estimates are the policy gradient itself
(Jie & Abbeel, 2010).
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.theory.returns import reward_to_go

Weighting = Literal["trajectory", "per-decision", "marginal"]
"""The kinds of weights."""


def likelihood_ratio(
    log_prob: Float[Array, "*axes"], old_log_prob: Float[Array, "*axes"]
) -> Float[Array, "*axes"]:
    """ρ = π(a|s) / π_old(a|s), from log-probabilities summed over action dimensions.

    As the weight of a step's advantage it is the first-order, "marginal" approximation: it corrects the
    choice of a_t, and leaves the distribution of s_t and of what follows a_t those of the old policy. It
    costs no variance from the other steps; value and gradient are exact at π = π_old, and away from there
    the value's bias is of second order in the distance, the gradient's of first (Kakade & Langford, 2002;
    Schulman et al., 2015, eq. 4).
    """
    return jnp.exp(log_prob - old_log_prob)


def trajectory_weight(log_ratios: Float[Array, " time"]) -> Float[Array, ""]:
    """W = Π_t ρ_t, the ratio of the trajectory's probabilities: E_old[W f(τ)] = E[f(τ)] for every f.

    The dynamics, being the same under both policies, cancel (Precup et al., 2000; Jie & Abbeel, 2010).
    """
    return jnp.exp(jnp.sum(log_ratios))


def per_decision_weights(log_ratios: Float[Array, " time"]) -> Float[Array, " time"]:
    """w_t = Π_{k≤t} ρ_k, the weight of r_t in the per-decision estimate V̂ = Σ_t (Π_{k<t} γ_k) w_t r_t.

    A reward cannot depend on later actions, whose ratios average to one and would only add variance (Precup
    et al., 2000). As the weight of the action a_t it is the past's share in the gradient, which
    `weighted_reward_to_go` completes.
    """
    return jnp.exp(jnp.cumsum(log_ratios))


def weighted_reward_to_go(
    rewards: Float[Array, " time"], discounts: Float[Array, " time"], ratios: Float[Array, " time"]
) -> Float[Array, " time"]:
    """G_t = r_t + γ_t ρ_{t+1} G_{t+1}: an estimate of Q(s_t, a_t) under π, from steps of the old policy.

    The future's weights lie on the rewards and the past's on the action, so that with w_t of
    `per_decision_weights`

        ∇V̂ = Σ_t (Π_{k<t} γ_k) w_t G_t ∇log π(a_t|s_t)

    is the gradient of the per-decision estimate itself, at any π (Precup et al., 2000; Jie & Abbeel, 2010).
    """
    one = jnp.ones((1,), ratios.dtype)
    return reward_to_go(rewards, discounts * jnp.concatenate([ratios[1:], one]))


def step_weights(log_ratios: Float[Array, " time"], weighting: Weighting) -> Float[Array, " time"]:
    """The weight of every step of a trajectory: W, w_t, or for `marginal` ρ_t."""
    if weighting == "trajectory":
        return jnp.broadcast_to(trajectory_weight(log_ratios), log_ratios.shape)
    return per_decision_weights(log_ratios) if weighting == "per-decision" else jnp.exp(log_ratios)


def clip_weights(weights: Float[Array, "*axes"], limit: float) -> Float[Array, "*axes"]:
    """min(w, limit): bounded variance for a bias towards the old policy (truncated importance sampling,
    Ionides, 2008). It also makes a weight that overflowed finite."""
    return jnp.minimum(weights, limit)


def self_normalise(
    weights: Float[Array, "trajectory *time"],
) -> Float[Array, "trajectory *time"]:
    """w_i / w̄, where w̄ is the mean over the trajectories: the weights then average to one.

    Weighted importance sampling (Precup et al., 2000): biased by the order of one over the number of
    trajectories, consistent, and of far less variance. With a time axis each step is normalised on its own; a
    trajectory that ended early goes on counting with its last weight, which keeps the denominator's
    expectation at one. All weights become zero where their mean is zero. They must be finite: clip those that
    may overflow.
    """
    total = jnp.sum(weights, axis=0)
    return weights * jnp.where(total > 0, len(weights) / jnp.where(total > 0, total, 1.0), 0.0)


def effective_sample_size(weights: Float[Array, " trajectory"]) -> Float[Array, ""]:
    """(Σ_i w_i)² / Σ_i w_i²: the number of trajectories drawn by π itself that would be about as informative
    (Kong, 1992).

    From one, where a single weight outweighs the rest, to the number of trajectories, where all are equal;
    zero where all are zero. A trajectory of weight zero does not count.
    """
    largest = jnp.max(weights)
    # The size does not depend on the weights' scale; without one, the squares of large weights overflow.
    scaled = weights / jnp.where(largest > 0, largest, 1.0)
    return jnp.sum(scaled) ** 2 / jnp.maximum(jnp.sum(scaled**2), 1.0)
