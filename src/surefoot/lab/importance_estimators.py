"""Estimators of a policy's gradient from another policy's episodes, each with its own kind of weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.lab.problems import Problem, SoftmaxTable, action_probabilities
from surefoot.lab.sampling import Episodes, discounts_of, past_discounts, step_scores
from surefoot.theory.importance import (
    likelihood_ratio,
    per_decision_weights,
    trajectory_weight,
    weighted_reward_to_go,
)
from surefoot.theory.returns import reward_to_go

UNBIASED = ("trajectory", "per decision")
MARGINAL = "marginal"


class Data(eqx.Module):
    """One batch of the old policy's episodes, seen from the new one."""

    scores: Float[Array, "n time parameters"]
    """∇log π(a_t|s_t)."""
    rewards: Float[Array, "n time"]
    log_probs: Float[Array, "n time"]
    old_log_probs: Float[Array, "n time"]
    discounts: Float[Array, " time"]
    """γ_t."""
    past: Float[Array, " time"]
    """γᵗ."""

    def weights(self, kind: str) -> Float[Array, "n time"]:
        """W at every step, w_t or ρ_t."""
        log_ratios = self.log_probs - self.old_log_probs
        if kind == "trajectory":
            return jnp.broadcast_to(jax.vmap(trajectory_weight)(log_ratios)[:, None], log_ratios.shape)
        if kind == "per decision":
            return jax.vmap(per_decision_weights)(log_ratios)
        return likelihood_ratio(self.log_probs, self.old_log_probs)

    def gradient(self, kind: str, weights: Float[Array, "n time"]) -> Float[Array, " parameters"]:
        """mean Σ_t γᵗ ∇log π(a_t|s_t) c_t, the estimate of ∇J(π).

        The marginal weight is the action's: c_t = ρ_t G_t. The others are those of the rewards that follow:
        c_t = Σ_{k≥t} γᵏ⁻ᵗ w_k r_k.
        """
        to_go = jax.vmap(reward_to_go, (0, None))
        if kind == MARGINAL:
            credit = weights * to_go(self.rewards, self.discounts)
        else:
            credit = to_go(weights * self.rewards, self.discounts)
        return self.credited(credit)

    def causal_gradient(self) -> Float[Array, " parameters"]:
        """The per-decision estimate again, with the past's weights on the action and the future's on the
        reward: c_t = w_t G_t, G_t = r_t + γ ρ_{t+1} G_{t+1}."""
        log_ratios = self.log_probs - self.old_log_probs
        forward = jax.vmap(weighted_reward_to_go, (0, None, 0))
        ratios = likelihood_ratio(self.log_probs, self.old_log_probs)
        past = jax.vmap(per_decision_weights)(log_ratios)
        return self.credited(past * forward(self.rewards, self.discounts, ratios))

    def credited(self, credit: Float[Array, "n time"]) -> Float[Array, " parameters"]:
        """mean Σ_t γᵗ ∇log π(a_t|s_t) c_t."""
        return jnp.einsum("ntp,nt->p", self.scores, self.past * credit) / len(credit)


def data_of(problem: Problem, old: SoftmaxTable, new: SoftmaxTable, episodes: Episodes) -> Data:
    """What the estimators see of one batch of episodes."""

    def log_probs(policy: SoftmaxTable) -> Array:
        return jnp.log(action_probabilities(problem, policy))[episodes.states, episodes.actions]

    return Data(
        step_scores(problem, new, episodes),
        episodes.rewards,
        log_probs(new),
        log_probs(old),
        discounts_of(problem),
        past_discounts(problem),
    )
