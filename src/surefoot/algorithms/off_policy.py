"""REINFORCE that learns from a batch more than once, by importance weights."""

from dataclasses import dataclass
from typing import Annotated

import jax
from jaxtyping import PyTree

from surefoot.algorithms.base import LearnerState, Setting
from surefoot.algorithms.on_policy import AbstractBatchAlgorithm, initial_state
from surefoot.options import Options, Positive, UserError, at_least
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule, OptaxStep
from surefoot.rules.base import Metrics
from surefoot.samplers import AbstractSampler
from surefoot.theory.importance import effective_sample_size
from surefoot.theory.off_policy import OffPolicyObjective, Weighting, trajectory_weights
from surefoot.types import Batch, Key


@dataclass(frozen=True)
class OffPolicyReinforce(Options, AbstractBatchAlgorithm):
    """REINFORCE with several gradient steps on each batch of whole episodes; from the second step on,
    importance weights correct for the policy that drew the data."""

    rule: AbstractRule = OptaxStep()
    """Rule of each step, which may use nothing of the loss but its gradient."""
    gradient_steps: Annotated[int, at_least(1)] = 5
    """Number of steps on one batch."""
    weighting: Weighting = "per-decision"
    """Importance weights. `trajectory`: the product of the ratios over the episode. `per-decision`: past
    ratios on the action, future ratios on the reward. `marginal`: the step's own ratio, a first-order
    approximation."""
    clip: Annotated[float | None, Positive] = None
    """Maximal weight (of a reward, where weights are per decision); none for no limit."""
    self_normalised: bool = False
    """Whether weights are divided by their mean over the episodes, for a small bias and much less
    variance."""

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        if not isinstance(setting.sampler, AbstractSampler):
            raise UserError("Importance weights are those of whole episodes; set --streams 0.")
        if policy.predicts_values:
            raise UserError("Off-policy REINFORCE trains no values; use a baseline and another policy.")
        if self.rule.requires_surrogate:
            raise UserError(
                f"{type(self.rule).__name__} compares losses, and that of off-policy REINFORCE is a "
                "pseudo-loss; use --rule optax-step, gradient-step or natural-gradient, or "
                "--algorithm single-task."
            )
        estimation = setting.estimator.estimation
        rewards_to_go = estimation.credit == "gae" and estimation.gae_lambda == 1
        if self.weighting == "per-decision" and (estimation.normalise or not rewards_to_go):
            raise UserError(
                "Per-decision weights lie on the rewards themselves; set --estimation.no-normalise, "
                "--estimation.credit gae and --estimation.gae-lambda 1."
            )
        return initial_state(setting, policy, self.rule.init(policy), key)

    def improve(
        self, policy: AbstractPolicy, batch: Batch, rule: PyTree
    ) -> tuple[AbstractPolicy, PyTree, Metrics]:
        objective = OffPolicyObjective(self.weighting, self.clip, self.self_normalised)

        def improve(
            now: tuple[AbstractPolicy, PyTree], _: None
        ) -> tuple[tuple[AbstractPolicy, PyTree], Metrics]:
            policy, rule, metrics = self.rule.step(objective, now[0], batch, now[1])
            return (policy, rule), metrics

        (improved, rule), seen = jax.lax.scan(improve, (policy, rule), length=self.gradient_steps)
        old, new = (objective.predict(p, batch) for p in (policy, improved))
        weights = trajectory_weights(new.log_prob(batch.actions), batch)
        metrics = {
            **{name: values[0] for name, values in seen.items()},
            "kl": objective.divergence(old, new, batch),
            "effective_sample_size": effective_sample_size(weights) / len(weights),
        }
        return improved, rule, metrics
