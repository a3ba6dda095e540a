"""DiCE: a loss of whole trajectories whose derivatives of every order are those of the expected return.

The gradient of a meta-gradient's inner step is a second derivative of the return. `surrogate` and `reinforce`
have the right first derivative and a wrong second one: they lack the products of scores of different steps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.options import UserError
from surefoot.theory.averages import valid_mean
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.divergences import mean_kl
from surefoot.theory.objectives import AbstractObjective, PolicyObjective, surrogate
from surefoot.types import Batch


def past_weights(log_ratios: Float[Array, " time"], decay: float | Array) -> Float[Array, " time"]:
    """V_t = Π_{k<t} ρ_k^(λ^(t−k)), with λ = `decay` and `log_ratios[t]` = log ρ_t, zero in padding.

    λ = 1 is the likelihood ratio of all actions before a_t, λ = 0 is 1 (Farquhar et al., 2019, algorithm 1).
    """
    steps = jnp.arange(len(log_ratios), dtype=log_ratios.dtype)
    age = steps[:, None] - steps
    powers = jnp.asarray(decay, log_ratios.dtype) ** jnp.maximum(age, 0.0)
    return jnp.exp(jnp.where(age > 0, powers, 0.0) @ log_ratios)


def loaded_dice(
    log_ratios: Float[Array, " time"],
    advantages: Float[Array, " time"],
    credits: Float[Array, " time"],
    decay: float | Array,
) -> Float[Array, " time"]:
    """The loss of each step, −ρ_t A_t − (V_t − 1)(ρ_t − 1) C_t, with V_t of `past_weights`.

    The first part is `surrogate`. The second is zero at the policy that drew the data, and so is its
    gradient; its second derivative has the products of ∇log π(a_t|s_t) with the scores of the steps before.
    With λ = 1 the derivatives of every order are, in expectation, those of the return (DiCE, Foerster et al.,
    2018); a smaller λ weakens the products of distant steps, for less variance and some bias (loaded DiCE,
    Farquhar et al., 2019); λ = 0 is `surrogate`.

    `credits` C_t are estimates of Q(s_t, a_t), or A_t itself. These are C_t less a baseline, which changes no
    expectation and is the control variate of Liu et al. (2019): the product of scores has a mean of zero,
    given s_t and all before it.
    """
    ratios = jnp.exp(log_ratios)
    return -ratios * advantages - (past_weights(log_ratios, decay) - 1.0) * (ratios - 1.0) * credits


class DiceObjective(AbstractObjective):
    """The loss `loaded_dice` of each step, averaged over the valid steps of one task's whole episodes.

    Ratios are to the policy that drew the data, and not to a constant copy of the policy: at that policy the
    derivatives are the same, and elsewhere the loss is still an importance-weighted estimate.
    """

    decay: float | Float[Array, ""] = 1.0
    """λ."""
    control_variate: bool = eqx.field(static=True, default=True)
    """Whether the credits C_t are the advantages; otherwise they are Q̂_t, from the batch's `transitions`, in
    the units of the advantages."""

    @property
    def uses_transitions(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return not self.control_variate

    def predict(self, policy: PyTree, batch: Batch) -> PyTree:
        """Raises `UserError` if the batch is `[step ...]`."""
        if batch.valid.ndim < 2:
            raise UserError(
                "The inner loss dice learns from whole episodes, [episode time ...], and this batch is "
                "[step ...]: steps of no order. Do not flatten the batch."
            )
        return _STEPS.predict(policy, batch)

    def loss(self, prediction: AbstractDistribution, batch: Batch) -> Float[Array, ""]:
        log_ratios = jnp.where(batch.valid, prediction.log_prob(batch.actions) - batch.log_probs, 0.0)
        each = jax.vmap(loaded_dice, in_axes=(0, 0, 0, None))
        return valid_mean(each(log_ratios, batch.advantages, self._credits(batch), self.decay), batch.valid)

    def divergence(self, old: PyTree, new: PyTree, batch: Batch) -> Float[Array, ""]:
        return mean_kl(old, new, batch.valid)

    def clipped(self, epsilon: float) -> AbstractObjective:
        """Raises `UserError`: clipping would change the derivatives."""
        del epsilon
        raise UserError(
            "ppo-clip as the inner rule would clip the ratios of the inner loss dice, whose products are all "
            "that it adds; use --inner-loss surrogate, or another inner rule such as gradient-step."
        )

    def _credits(self, batch: Batch) -> Float[Array, "episode time"]:
        if self.control_variate:
            return batch.advantages
        if batch.transitions is None:
            raise UserError(
                "The inner loss dice without its control variate needs the batch's transitions, and they are "
                "None; keep them, or set control_variate."
            )
        scale = 1.0 if batch.advantage_scale is None else batch.advantage_scale
        return batch.transitions.returns / scale


_STEPS = PolicyObjective(surrogate)
