"""Objectives: what a rule improves a policy on.

An objective splits a loss in two, so that a rule can differentiate the network once and treat what comes out
of it in closed form: `predict` runs the policy, `loss` and `divergence` score the predictions. Meta-learning
changes only `predict` (see `theory.meta`).
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from surefoot.theory.averages import valid_mean
from surefoot.theory.divergences import mean_kl
from surefoot.theory.importance import likelihood_ratio
from surefoot.types import Batch

StepLoss = Callable[[Array, Array, Array], Array]
"""(log π(a|s), log π_old(a|s), A) of one step or of many -> the loss of each."""


class AbstractObjective(eqx.Module):
    """A loss over a policy, in the parts that a rule needs."""

    @abstractmethod
    def predict(self, policy: PyTree, batch: PyTree) -> PyTree:
        """The policy's outputs on the batch: a pytree of arrays."""

    @abstractmethod
    def loss(self, prediction: PyTree, batch: PyTree) -> Float[Array, ""]:
        """What to minimise."""

    @abstractmethod
    def divergence(self, old: PyTree, new: PyTree, batch: PyTree) -> Float[Array, ""]:
        """KL(old ‖ new), averaged over the valid steps."""

    @abstractmethod
    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        """`f(batch)`, where `f` is a mean over the batch's leading axis, evaluated in as little memory as
        that allows.

        `batch` may be any pytree whose arrays share the leading axis of a batch. A rule computes whatever it
        computes through this method (gradients, curvature products, losses), and the objective decides
        whether the batch is taken whole or in parts.
        """


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


class PolicyObjective(AbstractObjective):
    """A loss of each step's log-probability, averaged over the valid steps of one task."""

    step_loss: StepLoss = eqx.field(static=True)

    def predict(self, policy: PyTree, batch: Batch) -> PyTree:
        return policy(batch.observations)

    def loss(self, prediction: PyTree, batch: Batch) -> Float[Array, ""]:
        log_probs = prediction.log_prob(batch.actions)
        return valid_mean(self.step_loss(log_probs, batch.log_probs, batch.advantages), batch.valid)

    def divergence(self, old: PyTree, new: PyTree, batch: Batch) -> Float[Array, ""]:
        return mean_kl(old, new, batch.valid)

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        return f(batch)


def loss_and_gradient(
    objective: AbstractObjective, policy: PyTree, batch: PyTree
) -> tuple[Float[Array, ""], PyTree]:
    """The loss at `policy` and its gradient, shaped like the policy's floating-point arrays."""

    def on(part: PyTree) -> tuple[Array, PyTree]:
        def loss(policy: PyTree) -> Array:
            return objective.loss(objective.predict(policy, part), part)

        return eqx.filter_value_and_grad(loss)(policy)

    return objective.average(on, batch)
