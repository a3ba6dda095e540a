"""Learning one task with one rule."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp

from surefoot.algorithms.base import AbstractAlgorithm, LearnerState, LossName, Setting, policy_objective
from surefoot.algorithms.reporting import describe
from surefoot.policies.base import AbstractPolicy
from surefoot.rules import AbstractRule, TrustRegion
from surefoot.rules.base import Metrics
from surefoot.types import Key, Task


@dataclass(frozen=True)
class SingleTask(AbstractAlgorithm):
    """Improve a policy on one task of the family, drawn once with the run's seed."""

    rule: AbstractRule = TrustRegion()
    loss: LossName = "surrogate"
    """Their gradients agree at the policy that drew the data; a line search needs the surrogate, whose value
    means something."""

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        env = setting.sampler.env
        unfitted = setting.estimation.baseline.init(env.observation_size)
        return LearnerState(policy, self.rule.init(policy), (unfitted,), env.sample_tasks(key, 1))

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        limit_ends = setting.sampler.env.time_limit_ends_return
        policies = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, state.policy)
        rollouts = setting.sampler.sample(policies, state.task, key)
        rollout = jax.tree.map(lambda x: x[0], rollouts)
        batch = setting.estimation.batch(rollout, state.baselines[0], limit_ends)
        policy, rule, metrics = self.rule.step(policy_objective(self.loss), state.policy, batch, state.rule)
        baseline = setting.estimation.refit(rollouts, state.baselines[0], limit_ends)
        return LearnerState(policy, rule, (baseline,), state.task), {
            **describe(state.policy, (rollout,)),
            **metrics,
        }

    def held_out_tasks(self, setting: Setting, state: LearnerState, key: Key, n: int) -> Task:
        """Its own task, n times: a single task has no others, only other episodes."""
        del setting, key
        return jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), state.task)
