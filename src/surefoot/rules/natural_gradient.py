"""The natural gradient: steepest descent in the metric of the policy's behaviour."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from surefoot.options import check
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.theory.trust_region import natural_direction


@dataclass(frozen=True)
class NaturalGradient(AbstractRule):
    """θ ← θ − α (F + λI)⁻¹ ∇L(θ) (Kakade, 2002)."""

    lr: float = 0.1
    """The rate α."""
    cg_iterations: int = 10
    """At most so many products with the Fisher matrix."""
    cg_tolerance: float = 1e-5
    """Conjugate gradient stops when its residual has shrunk to this fraction of the gradient."""
    damping: float = 1e-5
    """λ, added to the Fisher matrix's diagonal."""

    def __post_init__(self) -> None:
        check(0 <= self.lr < float("inf"), "lr", self.lr, "a finite rate of 0 or more")
        check(self.cg_iterations >= 1, "cg_iterations", self.cg_iterations, "1 or more")
        check(self.cg_tolerance >= 0, "cg_tolerance", self.cg_tolerance, "0 or more")
        check(self.damping >= 0, "damping", self.damping, "0 or more")

    def init(self, policy: PyTree) -> None:
        del policy

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: None
    ) -> tuple[PyTree, None, Metrics]:
        loss, gradient = loss_and_gradient(objective, policy, batch)
        natural = natural_direction(
            objective,
            policy,
            gradient,
            batch,
            damping=self.damping,
            max_iterations=self.cg_iterations,
            tolerance=self.cg_tolerance,
        )
        metrics = {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradient),
            "cg_iterations": natural.solution.iterations.astype(loss.dtype),
            "cg_residual": natural.solution.relative_residual,
        }
        finite = jnp.isfinite(natural.curvature)
        # `where` and not a scale of zero: the direction may hold what zero does not cancel.
        step = jax.tree.map(lambda s: jnp.where(finite, -self.lr * s, 0.0), natural.direction)
        return eqx.apply_updates(policy, step), state, metrics
