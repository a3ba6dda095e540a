"""Off-policy gradients: several steps on data of an earlier policy, weighted for the present one."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.theory.averages import valid_mean
from surefoot.theory.divergences import mean_kl
from surefoot.theory.importance import (
    Weighting,
    clip_weights,
    self_normalise,
    step_weights,
    trajectory_weight,
)
from surefoot.theory.objectives import AbstractObjective
from surefoot.theory.returns import reward_to_go
from surefoot.types import Batch


class OffPolicyObjective(AbstractObjective):
    """−mean_t sg(c_t) log π(a_t|s_t), on whole episodes `[episode time ...]`: a pseudo-loss, whose gradient
    is an importance-weighted policy gradient at the present policy.

    c_t is the weighted credit of an action, and `sg` (stop gradient) makes it a constant. `trajectory`: w_t
    A_t, with w_t the product of all of an episode's ratios. `marginal`: the same with ρ_t instead.
    `per-decision`: with w_t the product of those up to t, Σ_{k≥t} (Π_{t≤j<k} γ_j) w_k r_k − w_t V(s_t),
    where each reward is weighted by the decisions before it. That is w_t (G_t − V(s_t)) with the past's
    ratios on the action and the future's on the rewards of G_t (see `importance.weighted_reward_to_go`); in
    this form a limit on the weights limits the weight of each reward.
    """

    weighting: Weighting = eqx.field(static=True)
    clip: float | None = eqx.field(static=True, default=None)
    """Weights above this are lowered to it; None for no limit."""
    normalised: bool = eqx.field(static=True, default=False)
    """Whether the weights are divided by their mean over the episodes."""

    @property
    def uses_transitions(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.weighting == "per-decision"

    def predict(self, policy: PyTree, batch: Batch) -> PyTree:
        return policy(batch.observations)

    def loss(self, prediction: PyTree, batch: Batch) -> Float[Array, ""]:
        log_probs = prediction.log_prob(batch.actions)
        credits = self._credits(self.weights(log_probs, batch), batch)
        constant = jax.lax.stop_gradient(jnp.where(batch.valid, credits, 0.0))
        return valid_mean(-constant * log_probs, batch.valid)

    def divergence(self, old: PyTree, new: PyTree, batch: Batch) -> Float[Array, ""]:
        return mean_kl(old, new, batch.valid)

    def weights(self, log_probs: Float[Array, "episode time"], batch: Batch) -> Float[Array, "episode time"]:
        """w_t of every step, for the present policy's log-probabilities."""
        ratios = _log_ratios(log_probs, batch)
        weights = jax.vmap(lambda of_one: step_weights(of_one, self.weighting))(ratios)
        if self.clip is not None:
            weights = clip_weights(weights, self.clip)
        return self_normalise(weights) if self.normalised else weights

    def _credits(self, weights: Float[Array, "episode time"], batch: Batch) -> Float[Array, "episode time"]:
        """c_t of every step."""
        if self.weighting != "per-decision":
            return weights * batch.advantages
        assert batch.transitions is not None
        known = batch.transitions
        returns = jnp.where(batch.valid, known.returns, 0.0)
        # The reward; and where the episode was cut short, though its return goes on, the value of the rest.
        earned = returns - known.discounts * jnp.pad(returns[:, 1:], ((0, 0), (0, 1)))
        return jax.vmap(reward_to_go)(weights * earned, known.discounts) - weights * known.values


def trajectory_weights(log_probs: Float[Array, "episode time"], batch: Batch) -> Float[Array, " episode"]:
    """Π_t ρ_t of every episode."""
    return jax.vmap(trajectory_weight)(_log_ratios(log_probs, batch))


def _log_ratios(log_probs: Array, batch: Batch) -> Array:
    return jnp.where(batch.valid, log_probs - batch.log_probs, 0.0)
