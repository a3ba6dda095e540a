"""Off-policy gradients: several steps on data that an earlier policy drew, reweighted for the policy of
now."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.theory.averages import valid_mean
from surefoot.theory.divergences import mean_kl
from surefoot.theory.importance import (
    clip_weights,
    per_decision_weights,
    self_normalise,
    trajectory_weight,
    weighted_reward_to_go,
)
from surefoot.theory.objectives import AbstractObjective
from surefoot.types import Batch

Weighting = Literal["trajectory", "per-decision", "marginal"]


class OffPolicyObjective(AbstractObjective):
    """−mean_t sg(w_t Ĝ_t) log π(a_t|s_t), on whole episodes `[episode time ...]`: a pseudo-loss, whose
    gradient is an importance-weighted policy gradient at the policy of now.

    `trajectory`: w_t is the product of all of an episode's ratios. `per-decision`: the product of those up to
    t, while the rewards in Ĝ_t carry those after it (see `importance`). `marginal`: ρ_t alone.
    """

    weighting: Weighting = eqx.field(static=True)
    clip: float | None = eqx.field(static=True, default=None)
    """Weights above this are lowered to it; None for no limit."""
    normalised: bool = eqx.field(static=True, default=False)
    """Whether the weights are divided by their mean over the episodes."""

    def predict(self, policy: PyTree, batch: Batch) -> PyTree:
        return policy(batch.observations)

    def loss(self, prediction: PyTree, batch: Batch) -> Float[Array, ""]:
        log_probs = prediction.log_prob(batch.actions)
        weighted = self.weights(log_probs, batch) * self._credits(log_probs, batch)
        constant = jax.lax.stop_gradient(jnp.where(batch.valid, weighted, 0.0))
        return valid_mean(-constant * log_probs, batch.valid)

    def divergence(self, old: PyTree, new: PyTree, batch: Batch) -> Float[Array, ""]:
        return mean_kl(old, new, batch.valid)

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        return f(batch)

    def weights(self, log_probs: Float[Array, "episode time"], batch: Batch) -> Float[Array, "episode time"]:
        """w_t of every step, for the log-probabilities of now."""
        ratios = _log_ratios(log_probs, batch)
        if self.weighting == "trajectory":
            weights = jnp.broadcast_to(jax.vmap(trajectory_weight)(ratios)[:, None], ratios.shape)
        elif self.weighting == "per-decision":
            weights = jax.vmap(per_decision_weights)(ratios)
        else:
            weights = jnp.exp(ratios)
        if self.clip is not None:
            weights = clip_weights(weights, self.clip)
        return self_normalise(weights) if self.normalised else weights

    def _credits(self, log_probs: Float[Array, "episode time"], batch: Batch) -> Float[Array, "episode time"]:
        """Ĝ_t less the baseline; with the future's ratios on the rewards where decisions are weighed."""
        if self.weighting != "per-decision":
            return batch.advantages
        assert batch.transitions is not None
        known, ratios = batch.transitions, jnp.exp(_log_ratios(log_probs, batch))
        returns = jnp.where(batch.valid, known.returns, 0.0)
        # The reward; and where the episode was cut short, though its return goes on, the value of the rest.
        earned = returns - known.discounts * jnp.pad(returns[:, 1:], ((0, 0), (0, 1)))
        return jax.vmap(weighted_reward_to_go)(earned, known.discounts, ratios) - known.values


def trajectory_weights(log_probs: Float[Array, "episode time"], batch: Batch) -> Float[Array, " episode"]:
    """Π_t ρ_t of every episode."""
    return jax.vmap(trajectory_weight)(_log_ratios(log_probs, batch))


def _log_ratios(log_probs: Array, batch: Batch) -> Array:
    return jnp.where(batch.valid, log_probs - batch.log_probs, 0.0)
