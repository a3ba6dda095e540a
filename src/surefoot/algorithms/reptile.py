"""Reptile: move the policy towards the policies adapted from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.algorithms.gradient_adapter import inner_part
from surefoot.algorithms.gradient_meta import AbstractGradientMeta
from surefoot.options import UserError, at_least
from surefoot.rules import AbstractRule, GradientStep
from surefoot.theory.meta import (
    AbstractMetaObjective,
    AbstractTerm,
    InnerRule,
    adapt,
    average_tasks,
    map_tasks,
)
from surefoot.theory.objectives import AbstractObjective
from surefoot.types import MetaBatch


class ReptilePrediction(eqx.Module):
    """The prediction of `DistanceToAdapted` for each task: `[task ...]`."""

    displacement: PyTree
    """θ − θ'_i, shaped like the adapted parameters."""
    initial: PyTree
    """The policy's prediction on the first support set."""


class DistanceToAdapted(AbstractMetaObjective):
    """½ mean_i ‖θ − θ'_i‖², where θ'_i is the policy adapted to task i, a constant of the batch (Nichol et
    al., 2018).

    Its gradient is the mean of θ − θ'_i. With one inner step of rate α that is α times the gradient of the
    inner loss, averaged over tasks; with more steps it holds the later gradients too. The divergence is that
    of the policy before adaptation, on the first support sets.
    """

    inner_objective: AbstractObjective
    inner: InnerRule = eqx.field(static=True)
    chunk: int = eqx.field(static=True)
    """Number of tasks computed at a time."""

    def prepare(
        self, policy: PyTree, batch: MetaBatch, returns: Float[Array, "task episode"]
    ) -> dict[str, PyTree]:
        """The adapted parameters θ'_i."""
        del returns

        def on_task(task: MetaBatch) -> PyTree:
            policies = adapt(self.inner_objective, self.inner, policy, task.support, split=inner_part)
            return inner_part(policies[-1])[0]

        return {"adapted": map_tasks(on_task, batch, self.chunk)}

    def predict(self, policy: PyTree, batch: MetaBatch) -> ReptilePrediction:
        parameters = inner_part(policy)[0]

        def on_task(task: MetaBatch) -> ReptilePrediction:
            displacement = jax.tree.map(jnp.subtract, parameters, task.prepared["adapted"])
            return ReptilePrediction(displacement, self.inner_objective.predict(policy, task.support[0]))

        return map_tasks(on_task, batch, self.chunk)

    def loss(self, prediction: ReptilePrediction, batch: MetaBatch) -> Float[Array, ""]:
        del batch
        leaves = jax.tree.leaves(prediction.displacement)
        return 0.5 * jnp.sum(jnp.stack([jnp.sum(x**2) / len(x) for x in leaves]))

    def divergence(
        self, old: ReptilePrediction, new: ReptilePrediction, batch: MetaBatch
    ) -> Float[Array, ""]:
        return jnp.mean(jax.vmap(self.inner_objective.divergence)(old.initial, new.initial, batch.support[0]))

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        return average_tasks(f, batch, self.chunk)

    def clipped(self, epsilon: float) -> AbstractObjective:
        """Raises `UserError`."""
        del epsilon
        raise UserError(
            "Reptile's loss is a distance of parameters and has no likelihood ratio to clip, which ppo-clip "
            "needs; use --outer gradient-step, optax-step or another rule."
        )

    def update(
        self, policy: PyTree, batch: MetaBatch
    ) -> tuple[dict[str, AbstractTerm], Mapping[str, Float[Array, ""]]]:
        del policy, batch
        return {}, {}


@dataclass(frozen=True)
class Reptile(AbstractGradientMeta):
    """Reptile (Nichol et al., 2018): move the policy towards the policies adapted from it,
    θ ← θ + ε mean_i (θ'_i − θ).

    No inner step is differentiated. With a single inner step it learns one policy for all tasks and nothing
    about adaptation.
    """

    outer: AbstractRule = GradientStep(lr=1.0)
    """Rule by which the policy is meta-trained. The rate of the default is ε; 1 is the mean of the adapted
    policies."""
    inner_steps: Annotated[int, at_least(1)] = 3
    """Number of steps of adaptation, each on fresh rollouts."""
    order: Literal["first"] = "first"
    """Order of the meta-gradient: no inner step is differentiated."""
    repeats_inner_steps = False

    def objective(self, terms: dict[str, AbstractTerm]) -> DistanceToAdapted:
        del terms
        return DistanceToAdapted(self.inner_objective, self.inner, self.chunk)
