"""The adapter of gradient methods: inner steps of a rule on the parameters that have that role."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from surefoot.algorithms.base import AbstractAdapter, LearnerState, policy_objective
from surefoot.algorithms.estimator import Estimator
from surefoot.algorithms.normalisation import Scales
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy, partition_by_role
from surefoot.rules.base import AbstractRule
from surefoot.theory.meta import inner_step
from surefoot.theory.objectives import AbstractObjective
from surefoot.types import Batch, Rollout


def inner_part(policy: Any) -> tuple[PyTree, PyTree]:
    """The part of a policy that inner steps change, and the rest."""
    return partition_by_role(policy, "adapted", "context")


def outer_part(policy: Any) -> tuple[PyTree, PyTree]:
    """The part of a policy that outer steps change, and the rest."""
    return partition_by_role(policy, "shared", "adapted")


class GradientAdapter(AbstractAdapter):
    """Adapts a policy by steps of a rule, each on fresh episodes of the task."""

    steps: int = eqx.field(static=True)
    objective: AbstractObjective
    scales: Scales
    baselines: tuple[PyTree, ...]
    """The baseline's parameters of the iteration before, for each phase; later phases have the last."""
    rule: AbstractRule = eqx.field(static=True)
    estimator: Estimator = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        estimator: Estimator,
        state: LearnerState,
        rule: AbstractRule,
        objective: AbstractObjective,
        steps: int,
        replacement: AbstractRule | None = None,
    ) -> "GradientAdapter":
        """The adapter of a learner whose policy takes `steps` steps of `rule` on an objective, or of the
        rule's `replacement`. One that needs a surrogate gets it: where the data was drawn, the gradients of
        all inner losses agree."""
        if replacement is not None and replacement.requires_surrogate:
            objective = policy_objective("surrogate")
        return cls(steps, objective, state.scales, state.baselines, replacement or rule, estimator)

    def begin(self, policy: AbstractPolicy) -> tuple[AbstractPolicy, PyTree]:
        """The policy, whose context no outer step has changed, and the rule's first state."""
        return policy, self.rule.init(inner_part(policy)[0])

    def acting(self, learner: tuple[AbstractPolicy, PyTree]) -> AbstractPolicy:
        return self.estimator.acting(learner[0], self.scales)

    def batch(self, rollout: Rollout, phase: Int[Array, ""]) -> Batch:
        prepared = self.estimator.prepare(rollout, self.scales)
        place = jnp.minimum(phase, len(self.baselines) - 1)
        baseline = jax.tree.map(lambda *each: jnp.stack(each)[place], *self.baselines)
        batch = self.estimator.batch(prepared, baseline)
        return batch if self.objective.uses_transitions else replace(batch, transitions=None)

    def improve(self, learner: tuple[AbstractPolicy, PyTree], batch: Batch) -> tuple[AbstractPolicy, PyTree]:
        """One step of the rule. Raises `UserError` for an actor-critic."""
        policy, state = learner
        if policy.predicts_values:
            raise UserError(
                "Adaptation takes its advantages from a baseline and would not train an actor-critic's "
                "values; use another policy, such as --policy categorical-mlp or --policy gaussian-mlp."
            )
        return inner_step(self.objective, self.rule, policy, batch, state, split=inner_part)
