"""Learning one task with one rule: REINFORCE to PPO, according to the rule, the loss and the policy."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import PyTree

from surefoot.algorithms.base import LearnerState, LossName, Setting, check_loss, policy_objective
from surefoot.algorithms.on_policy import AbstractBatchAlgorithm, as_steps, begin
from surefoot.options import UserError, check
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule, TrustRegion
from surefoot.rules.base import Metrics
from surefoot.theory.objectives import AbstractObjective, ActorCriticObjective
from surefoot.types import Batch, Key


@dataclass(frozen=True)
class SingleTask(AbstractBatchAlgorithm):
    """Improve a policy on one task of the family, drawn once with the run's seed."""

    rule: AbstractRule = TrustRegion()
    loss: LossName = "surrogate"
    """Their gradients agree at the policy that drew the data; a line search and steps after the first need
    the surrogate, whose value means something."""
    entropy_bonus: float = 0.0
    """The weight of the policy's mean entropy, in nats, beside the loss."""
    value_coefficient: float = 0.5
    """With an actor-critic policy: the weight of its value function's loss."""

    def __post_init__(self) -> None:
        check(self.entropy_bonus >= 0, "entropy_bonus", self.entropy_bonus, "0 or more")
        check(self.value_coefficient >= 0, "value_coefficient", self.value_coefficient, "0 or more")

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        if policy.predicts_values and self.rule.measures_by_kl:
            raise UserError(
                "The Fisher matrix measures what the actions do and is blind to an actor-critic's values: "
                "their part of a natural step would have no bound. Use a gradient or proximal rule, or "
                "another policy with a baseline."
            )
        check_loss(self.rule, self.loss, "--loss")
        return begin(setting, policy, self.rule.init(policy), key)

    def improve(
        self, policy: AbstractPolicy, batch: Batch, rule: PyTree
    ) -> tuple[AbstractPolicy, PyTree, Metrics]:
        return self.rule.step(self._objective(policy), policy, as_steps(policy, batch), rule)

    def _objective(self, policy: Any) -> AbstractObjective:
        objective = policy_objective(self.loss, self.entropy_bonus)
        if not policy.predicts_values:
            return objective
        return ActorCriticObjective(objective, self.value_coefficient, policy.auxiliary)
