"""Learning one task with one rule: REINFORCE, A2C, natural gradient, TRPO or PPO, as the rule, the loss and
the policy are chosen."""

from dataclasses import dataclass

from surefoot.algorithms.base import LearnerState, Setting
from surefoot.algorithms.improvement import Improvement
from surefoot.algorithms.on_policy import AbstractBatchAlgorithm, initial_state
from surefoot.policies import AbstractPolicy
from surefoot.types import Key


@dataclass(frozen=True)
class SingleTask(Improvement, AbstractBatchAlgorithm):
    """Improve a policy on one task of the family, drawn once with the run's seed."""

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        self.check_policy(policy)
        return initial_state(setting, policy, self.rule.init(policy), key)
