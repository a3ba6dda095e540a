"""Objectives: what a rule improves a policy on.

An objective splits a loss in two, so that a rule can differentiate the network once and treat what comes out
of it in closed form: `predict` runs the policy, `loss` and `divergence` score the predictions. Meta-learning
changes only `predict` (see `theory.meta`).
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.options import UserError
from surefoot.theory.averages import valid_mean
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.divergences import mean_entropy, mean_kl
from surefoot.theory.importance import likelihood_ratio
from surefoot.theory.values import value_change, value_loss
from surefoot.types import Batch

StepLoss = Callable[[Array, Array, Array], Array]
"""(log π(a|s), log π_old(a|s), A) of one step or of many -> the loss of each."""


class AbstractObjective(eqx.Module):
    """A loss over a policy, in the parts that a rule needs."""

    uses_transitions: ClassVar[bool] = False
    """Whether the loss needs the batch's `transitions`."""

    @abstractmethod
    def predict(self, policy: PyTree, batch: PyTree) -> PyTree:
        """The policy's outputs on the batch: a pytree of arrays."""

    @abstractmethod
    def loss(self, prediction: PyTree, batch: PyTree) -> Float[Array, ""]:
        """The scalar to minimise."""

    @abstractmethod
    def divergence(self, old: PyTree, new: PyTree, batch: PyTree) -> Float[Array, ""]:
        """KL(old ‖ new), averaged over the valid steps."""

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        """`f(batch)`, where `f` is a mean over the batch's leading axis, evaluated in as little memory as
        that allows.

        `batch` may be any pytree whose arrays share the leading axis of a batch. A rule computes whatever it
        computes through this method (gradients, curvature products, losses), and the objective decides
        whether the batch is taken whole, as by default, or in parts.
        """
        return f(batch)

    def clipped(self, epsilon: float) -> "AbstractObjective":
        """The same objective with its likelihood ratio clipped to 1 ± ε. One that has no ratio cannot."""
        del epsilon
        raise UserError(
            f"{type(self).__name__} has no likelihood ratio to clip, which ppo-clip needs; "
            "use ppo-penalty or another rule."
        )


def reinforce(log_prob: Array, old_log_prob: Array, advantage: Array) -> Array:
    """−log π(a|s) A: a pseudo-loss, whose gradient is the policy gradient and whose value means nothing.

    Williams (1992). In a meta-gradient it is the "log-likelihood" inner objective: the same first-order terms
    as `surrogate`, other second-order ones.
    """
    del old_log_prob
    return -log_prob * advantage


def surrogate(log_prob: Array, old_log_prob: Array, advantage: Array) -> Array:
    """−ρ A with ρ = π(a|s)/π_old(a|s): an estimate of the loss at policies near the old one.

    Schulman et al. (2015), eq. 14; in a meta-gradient, the "likelihood-ratio" inner objective.
    """
    return -likelihood_ratio(log_prob, old_log_prob) * advantage


@dataclass(frozen=True)
class Clipped:
    """−min(ρ A, clip(ρ, 1 − ε, 1 + ε) A): the surrogate with nothing to gain from a ratio beyond 1 ± ε.

    Schulman et al. (2017), eq. 7. The minimum keeps −loss a lower bound of the surrogate ρA: where the ratio
    has moved the wrong way, the loss still pulls it back.
    """

    epsilon: float

    def __call__(self, log_prob: Array, old_log_prob: Array, advantage: Array) -> Array:
        ratio = likelihood_ratio(log_prob, old_log_prob)
        bounded = jnp.clip(ratio, 1 - self.epsilon, 1 + self.epsilon)
        return -jnp.minimum(ratio * advantage, bounded * advantage)


class PolicyObjective(AbstractObjective):
    """A loss of each step's log-probability, averaged over the valid steps of one task."""

    step_loss: StepLoss = eqx.field(static=True)
    entropy_bonus: float = 0.0
    """Multiplies the mean entropy, which is subtracted from the loss (Williams & Peng, 1991): it keeps a
    policy from becoming certain too early."""

    def predict(self, policy: PyTree, batch: Batch) -> PyTree:
        _check_sequences(policy, batch)
        if batch.starts is None:
            return policy(batch.observations)
        return policy.unroll(batch.observations, batch.starts, batch.memory)

    def loss(self, prediction: PyTree, batch: Batch) -> Float[Array, ""]:
        # Padding gets a ratio of one. What it would be may overflow, and zero times an infinite slope is NaN.
        log_probs = jnp.where(batch.valid, prediction.log_prob(batch.actions), batch.log_probs)
        loss = valid_mean(self.step_loss(log_probs, batch.log_probs, batch.advantages), batch.valid)
        if not _is_zero(self.entropy_bonus):
            loss -= self.entropy_bonus * mean_entropy(prediction, batch.valid)
        return loss

    def divergence(self, old: PyTree, new: PyTree, batch: Batch) -> Float[Array, ""]:
        return mean_kl(old, new, batch.valid)

    def clipped(self, epsilon: float) -> "PolicyObjective":
        return PolicyObjective(Clipped(epsilon), self.entropy_bonus)


def _is_zero(weight: Any) -> bool:
    """Whether a weight is known to be 0, so that its term can be left out. That of a traced one is not."""
    return isinstance(weight, int | float) and weight == 0


def _check_sequences(policy: PyTree, batch: Batch) -> None:
    """Raises `UserError` if the policy is recurrent and the batch's steps have no order."""
    if getattr(policy, "is_recurrent", False) and batch.valid.ndim < 2:
        raise UserError(
            "A recurrent policy learns from sequences, [episode time ...], and this batch is [step ...]: "
            "steps of no order, which it would take for one episode. Do not flatten the batch."
        )


class Prediction(eqx.Module):
    """Outputs of a policy that predicts values too."""

    distribution: AbstractDistribution
    values: Float[Array, "*batch"]
    """V(s)."""
    auxiliary: Float[Array, "*batch _"] | None = None
    """The auxiliary loss's predictions; None where there is no auxiliary loss."""


AuxiliaryLoss = Callable[[Array, Batch], Array]
"""(the policy's auxiliary output at each step, the batch) -> a scalar to minimise beside the rest."""


class ActorCriticObjective(AbstractObjective):
    """policy loss + c · value loss + auxiliary loss + κ · change of the values, for a network whose parts are
    shared (Mnih et al., 2016).

    The divergence is that of the actions alone: it does not bound how far the values move.
    """

    policy_objective: PolicyObjective
    value_coefficient: float = 0.5
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True, default=None)
    value_proximal: float = 0.0
    """Weight κ of the mean of (V − V_old)², with the values V_old that the batch was estimated with."""
    uses_transitions = True

    def predict(self, policy: PyTree, batch: Batch) -> Prediction:
        _check_sequences(policy, batch)
        if batch.starts is None:
            return policy.outputs(batch.observations, batch.actions)
        return policy.unroll_outputs(batch.observations, batch.actions, batch.starts, batch.memory)

    def loss(self, prediction: PyTree, batch: Batch) -> Float[Array, ""]:
        assert batch.transitions is not None
        loss = self.policy_objective.loss(prediction.distribution, batch)
        critic = value_loss(prediction.values, batch.transitions.returns, batch.valid)
        loss += self.value_coefficient * critic
        if not _is_zero(self.value_proximal):
            change = value_change(prediction.values, batch.transitions.values, batch.valid)
            loss += self.value_proximal * change
        return loss if self.auxiliary is None else loss + self.auxiliary(prediction.auxiliary, batch)

    def divergence(self, old: PyTree, new: PyTree, batch: Batch) -> Float[Array, ""]:
        return self.policy_objective.divergence(old.distribution, new.distribution, batch)

    def clipped(self, epsilon: float) -> "ActorCriticObjective":
        clipped = self.policy_objective.clipped(epsilon)
        return ActorCriticObjective(clipped, self.value_coefficient, self.auxiliary, self.value_proximal)


class Penalised(AbstractObjective):
    """L(θ) + β KL(θ_old ‖ θ): a KL penalty in place of a bound (Schulman et al., 2015, eq. 9; 2017,
    eq. 8).

    Its batches are pairs: that of `objective`, and what the old policy predicts on it.
    """

    objective: AbstractObjective
    beta: Float[Array, ""]

    def predict(self, policy: PyTree, batch: tuple[PyTree, PyTree]) -> PyTree:
        return self.objective.predict(policy, batch[0])

    def loss(self, prediction: PyTree, batch: tuple[PyTree, PyTree]) -> Float[Array, ""]:
        data, old = batch
        divergence = self.objective.divergence(old, prediction, data)
        return self.objective.loss(prediction, data) + self.beta * divergence

    def divergence(self, old: PyTree, new: PyTree, batch: tuple[PyTree, PyTree]) -> Float[Array, ""]:
        return self.objective.divergence(old, new, batch[0])

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        return self.objective.average(f, batch)


class OnPart(AbstractObjective):
    """An objective as a function of some of a policy's parameters; the others are constants."""

    objective: AbstractObjective
    rest: PyTree
    """The policy without that part, to be combined with it by `eqx.combine`."""

    def predict(self, policy: PyTree, batch: PyTree) -> PyTree:
        return self.objective.predict(eqx.combine(policy, self.rest), batch)

    def loss(self, prediction: PyTree, batch: PyTree) -> Float[Array, ""]:
        return self.objective.loss(prediction, batch)

    def divergence(self, old: PyTree, new: PyTree, batch: PyTree) -> Float[Array, ""]:
        return self.objective.divergence(old, new, batch)

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        return self.objective.average(f, batch)

    def clipped(self, epsilon: float) -> "OnPart":
        return OnPart(self.objective.clipped(epsilon), self.rest)


def adaptive_kl_coefficient(
    beta: Float[Array, ""], divergence: Float[Array, ""], target: Float[Array, ""] | float
) -> Float[Array, ""]:
    """β doubled where the last step's KL exceeded 1.5 × `target`, halved where it stayed under `target` / 1.5
    (Schulman et al., 2017, sec. 4), between 10⁻⁶ and 10⁶."""
    factor = jnp.where(divergence > 1.5 * target, 2.0, jnp.where(divergence < target / 1.5, 0.5, 1.0))
    return jnp.clip(beta * factor.astype(beta.dtype), 1e-6, 1e6)


def loss_and_gradient(
    objective: AbstractObjective, policy: PyTree, batch: PyTree
) -> tuple[Float[Array, ""], PyTree]:
    """The loss at `policy` and its gradient, shaped like the policy's floating-point arrays."""

    def on(part: PyTree) -> tuple[Array, PyTree]:
        def loss(policy: PyTree) -> Array:
            return objective.loss(objective.predict(policy, part), part)

        return eqx.filter_value_and_grad(loss)(policy)

    return objective.average(on, batch)
