"""Improvement of a policy by one rule on its own batches: what `SingleTask` and `RL2` share."""

from dataclasses import dataclass
from typing import Annotated, Any

from jaxtyping import PyTree

from surefoot.algorithms.base import LossName, check_loss, policy_objective
from surefoot.algorithms.on_policy import as_steps
from surefoot.options import NonNegative, Options, UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule, TrustRegion
from surefoot.rules.base import Metrics
from surefoot.theory.objectives import AbstractObjective, ActorCriticObjective
from surefoot.types import Batch


@dataclass(frozen=True)
class Improvement(Options):
    """Options of the improvement of a policy on a batch that it drew."""

    rule: AbstractRule = TrustRegion()
    """Rule that improves the policy."""
    loss: LossName = "surrogate"
    """Loss of the policy. The gradients of both agree at the policy that drew the data; a line search and
    steps after the first need the surrogate."""
    entropy_bonus: Annotated[float, NonNegative] = 0.0
    """Weight of the policy's mean entropy, in nats, which is subtracted from the loss."""
    value_coefficient: Annotated[float, NonNegative] = 0.5
    """Weight of the value function's loss, for an actor-critic policy."""
    value_proximal: Annotated[float, NonNegative] = 0.0
    """Weight κ of the mean squared change of the values by a batch, for an actor-critic policy."""

    def check_policy(self, policy: AbstractPolicy) -> None:
        """Raises `UserError` if rule, loss and policy do not fit together."""
        if policy.predicts_values and self.rule.measures_by_kl:
            raise UserError(
                "The Fisher matrix measures what the actions do and is blind to an actor-critic's values: "
                "their part of a natural step would have no bound. Use a gradient or proximal rule, or "
                "another policy with a baseline."
            )
        check_loss(self.rule, self.loss, "--loss")

    def improve(
        self, policy: AbstractPolicy, batch: Batch, rule: PyTree
    ) -> tuple[AbstractPolicy, PyTree, Metrics]:
        return self.rule.step(self._objective(policy), policy, as_steps(policy, batch), rule)

    def _objective(self, policy: Any) -> AbstractObjective:
        objective = policy_objective(self.loss, self.entropy_bonus)
        if not policy.predicts_values:
            return objective
        return ActorCriticObjective(objective, self.value_coefficient, policy.auxiliary, self.value_proximal)
