"""REINFORCE that learns from a batch more than once, by importance weights."""

from dataclasses import dataclass

import jax
from jaxtyping import PyTree

from surefoot.algorithms.base import LearnerState, Setting
from surefoot.algorithms.on_policy import AbstractBatchAlgorithm, begin
from surefoot.options import UserError, check
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule, OptaxStep
from surefoot.rules.base import Metrics
from surefoot.samplers import AbstractSampler
from surefoot.theory.importance import effective_sample_size
from surefoot.theory.off_policy import OffPolicyObjective, Weighting, trajectory_weights
from surefoot.types import Batch, Key


@dataclass(frozen=True)
class OffPolicyReinforce(AbstractBatchAlgorithm):
    """Several gradient steps on each batch of whole episodes; from the second on, the data are another
    policy's and are weighted for it."""

    rule: AbstractRule = OptaxStep()
    """The step, which must need no more than a gradient: a line search has no use for a pseudo-loss."""
    gradient_steps: int = 5
    """Steps on one batch."""
    weighting: Weighting = "per-decision"
    """`trajectory`: the product over the episode. `per-decision`: past weights on the action, future weights
    on the reward. `marginal`: the step's own ratio alone, a first-order approximation."""
    clip: float | None = None
    """Weights above this are lowered to it; none for no limit. Those of the rewards, per decision."""
    self_normalised: bool = False
    """Divide the weights by their mean over the episodes: a little bias for much less variance."""

    def __post_init__(self) -> None:
        check(self.gradient_steps >= 1, "gradient_steps", self.gradient_steps, "1 or more")
        check(self.clip is None or self.clip > 0, "clip", self.clip, "a positive number or none")

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
        estimation = setting.estimation
        rewards_to_go = estimation.credit == "gae" and estimation.gae_lambda == 1
        if self.weighting == "per-decision" and (estimation.normalise or not rewards_to_go):
            raise UserError(
                "Per-decision weights lie on the rewards themselves; set --estimation.no-normalise, "
                "--estimation.credit gae and --estimation.gae-lambda 1."
            )
        return begin(setting, policy, self.rule.init(policy), key)

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
