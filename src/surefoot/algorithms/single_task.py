"""Learning one task with one rule: REINFORCE, A2C, natural gradient, TRPO or PPO, as the rule, the loss and
the policy are chosen."""

from dataclasses import dataclass
from typing import Annotated, Any

from jaxtyping import PyTree

from surefoot.algorithms.base import LearnerState, LossName, Setting, check_loss, policy_objective
from surefoot.algorithms.on_policy import AbstractBatchAlgorithm, as_steps, initial_state
from surefoot.options import NonNegative, Options, UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule, TrustRegion
from surefoot.rules.base import Metrics
from surefoot.theory.objectives import AbstractObjective, ActorCriticObjective
from surefoot.types import Batch, Key


@dataclass(frozen=True)
class SingleTask(Options, AbstractBatchAlgorithm):
    """Improve a policy on one task of the family, drawn once with the run's seed."""

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

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        if policy.predicts_values and self.rule.measures_by_kl:
            raise UserError(
                "The Fisher matrix measures what the actions do and is blind to an actor-critic's values: "
                "their part of a natural step would have no bound. Use a gradient or proximal rule, or "
                "another policy with a baseline."
            )
        check_loss(self.rule, self.loss, "--loss")
        return initial_state(setting, policy, self.rule.init(policy), key)

    def improve(
        self, policy: AbstractPolicy, batch: Batch, rule: PyTree
    ) -> tuple[AbstractPolicy, PyTree, Metrics]:
        return self.rule.step(self._objective(policy), policy, as_steps(policy, batch), rule)

    def _objective(self, policy: Any) -> AbstractObjective:
        objective = policy_objective(self.loss, self.entropy_bonus)
        if not policy.predicts_values:
            return objective
        return ActorCriticObjective(objective, self.value_coefficient, policy.auxiliary, self.value_proximal)
