"""REINFORCE with the return of the whole episode, and the optimal baseline of each parameter."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax.tree
from jaxtyping import Array, PyTree

from surefoot.algorithms.base import LearnerState, Setting
from surefoot.algorithms.on_policy import AbstractBatchAlgorithm, initial_state
from surefoot.options import Options, UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules import OptaxStep
from surefoot.rules.base import Metrics
from surefoot.samplers import AbstractSampler
from surefoot.theory.policy_gradient import optimal_baseline, policy_gradient, score
from surefoot.types import Batch, Key


@dataclass(frozen=True)
class Reinforce(Options, AbstractBatchAlgorithm):
    """∇J ≈ 1/N Σᵢ ∇log P(τᵢ) (R(τᵢ) − b): one step along it for each batch of whole episodes (Williams,
    1992).

    R is the return of the whole episode (set `--estimation.credit whole-return`), less what the estimation's
    baseline makes of it. With reward-to-go or a critic it is `single-task` with a gradient step.
    """

    step: OptaxStep = OptaxStep()
    """Optimiser step along the gradient."""
    baseline: Literal["none", "optimal", "leave-one-out"] = "leave-one-out"
    """Baseline b. `optimal`: for each parameter the constant of least variance, Σ(∇log P)² R / Σ(∇log P)²
    over the batch. `leave-one-out`: the same, for each episode from the others, which keeps the gradient
    unbiased. `none`: zero."""

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        if (
            not isinstance(setting.sampler, AbstractSampler)
            or setting.estimator.estimation.credit != "whole-return"
        ):
            raise UserError(
                "REINFORCE credits every action with the return of its whole episode; set --streams 0 and "
                "--estimation.credit whole-return, or use --algorithm single-task."
            )
        if policy.predicts_values:
            raise UserError("REINFORCE trains no values; use --algorithm single-task with an actor-critic.")
        return initial_state(setting, policy, self.step.init(policy), key)

    def improve(
        self, policy: AbstractPolicy, batch: Batch, rule: PyTree
    ) -> tuple[AbstractPolicy, PyTree, Metrics]:
        gradient, loss = self._gradient(policy, batch)
        policy, rule = self.step.apply(policy, gradient, rule)
        return policy, rule, {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}

    def _gradient(self, policy: AbstractPolicy, batch: Batch) -> tuple[AbstractPolicy, Array]:
        """The gradient of −J, and −J itself, less the estimation's baseline."""
        credits = batch.advantages[:, 0]
        scores = jax.vmap(lambda *episode: score(policy, *episode))(
            batch.observations, batch.actions, batch.valid
        )
        best = 0.0
        if self.baseline != "none":
            best = optimal_baseline(scores, credits, leave_one_out=self.baseline == "leave-one-out")
        gradient = policy_gradient(scores, credits, best)
        return jax.tree.map(lambda g: -g, gradient), -jnp.mean(credits)
