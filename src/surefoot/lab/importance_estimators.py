"""Estimators of a policy's gradient from another policy's episodes, each with its own kind of weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.lab.exact import log_probs, step_scores
from surefoot.lab.problems import Episodes, Problem, SoftmaxTable
from surefoot.theory.importance import Weighting, step_weights
from surefoot.theory.returns import reward_to_go

UNBIASED: tuple[Weighting, ...] = ("trajectory", "per-decision")
MARGINAL: Weighting = "marginal"


class Data(eqx.Module):
    """One batch of the old policy's episodes, with the scores and probabilities of the new policy."""

    scores: Float[Array, "n time parameters"]
    """∇log π(a_t|s_t)."""
    rewards: Float[Array, "n time"]
    log_probs: Float[Array, "n time"]
    old_log_probs: Float[Array, "n time"]
    discounts: Float[Array, " time"]
    """γ_t."""
    discount_powers: Float[Array, " time"]
    """γᵗ."""

    def weights(self, kind: Weighting) -> Float[Array, "n time"]:
        """The weight of every step: W of the trajectory, w_t per decision, or the marginal ρ_t."""
        log_ratios = self.log_probs - self.old_log_probs
        return jax.vmap(lambda of_one: step_weights(of_one, kind))(log_ratios)

    def gradient(self, kind: Weighting, weights: Float[Array, "n time"]) -> Float[Array, " parameters"]:
        """mean Σ_t γᵗ ∇log π(a_t|s_t) c_t, an estimate of ∇J(π).

        The marginal weight is the action's: c_t = ρ_t G_t. The others are those of the rewards that follow:
        c_t = Σ_{k≥t} γᵏ⁻ᵗ w_k r_k.
        """
        to_go = jax.vmap(reward_to_go, (0, None))
        if kind == MARGINAL:
            return self._gradient(weights * to_go(self.rewards, self.discounts))
        return self._gradient(to_go(weights * self.rewards, self.discounts))

    def _gradient(self, credit: Float[Array, "n time"]) -> Float[Array, " parameters"]:
        return jnp.einsum("ntp,nt->p", self.scores, self.discount_powers * credit) / len(credit)


def data_of(problem: Problem, old: SoftmaxTable, new: SoftmaxTable, episodes: Episodes) -> Data:
    """The estimators' inputs from one batch of episodes of the policy `old`."""
    return Data(
        step_scores(new, episodes),
        episodes.rewards,
        log_probs(new, episodes),
        log_probs(old, episodes),
        problem.discounts,
        problem.discount_powers,
    )
