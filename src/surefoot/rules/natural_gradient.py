"""The natural gradient: steepest descent in the metric of the policy's behaviour."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from surefoot.options import check
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.theory.trust_region import NaturalDirection, natural_direction, step_length


@dataclass(frozen=True, kw_only=True)
class NaturalOptions:
    """How a rule finds the natural direction, and what it tells of it."""

    cg_iterations: int = 10
    """At most so many products with the Fisher matrix."""
    cg_tolerance: float = 1e-5
    """Conjugate gradient stops when its residual has shrunk to this fraction of the gradient."""
    damping: float = 1e-5
    """λ, added to the Fisher matrix's diagonal."""

    def __post_init__(self) -> None:
        check(self.cg_iterations >= 1, "cg_iterations", self.cg_iterations, "1 or more")
        check(self.cg_tolerance >= 0, "cg_tolerance", self.cg_tolerance, "0 or more")
        check(self.damping >= 0, "damping", self.damping, "0 or more")

    def direction(
        self, objective: AbstractObjective, policy: PyTree, gradient: PyTree, batch: PyTree
    ) -> NaturalDirection:
        """(F + λI)⁻¹ `gradient`, with the Fisher matrix F of `batch`."""
        return natural_direction(
            objective,
            policy,
            gradient,
            batch,
            damping=self.damping,
            max_iterations=self.cg_iterations,
            tolerance=self.cg_tolerance,
        )

    def describe(
        self, loss: Float[Array, ""], gradient: PyTree, natural: NaturalDirection
    ) -> dict[str, Float[Array, ""]]:
        """The metrics of a step in that direction."""
        return {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradient),
            "cg_iterations": natural.solution.iterations.astype(loss.dtype),
            "cg_residual": natural.solution.relative_residual,
        }


@dataclass(frozen=True)
class NaturalGradient(NaturalOptions, AbstractRule):
    """θ ← θ − α (F + λI)⁻¹ ∇L(θ) (Kakade, 2002). A step that is not finite is refused.

    With `max_kl` = δ the rate is not fixed: α = √(2δ / gᵀ(F + λI)⁻¹g), so that every step moves the policy's
    behaviour by the same amount (Peters & Schaal, 2008).
    """

    lr: float = 0.1
    """The rate α; not used where `max_kl` is given."""
    max_kl: float | None = None
    """δ: the KL(old ‖ new) that each step has in the quadratic model, in nats; none for a fixed rate. Nothing
    checks the real KL: that is what `trust-region` adds."""

    def __post_init__(self) -> None:
        NaturalOptions.__post_init__(self)
        check(0 <= self.lr < float("inf"), "lr", self.lr, "a finite rate of 0 or more")
        check(self.max_kl is None or self.max_kl > 0, "max_kl", self.max_kl, "a positive number or none")

    def init(self, policy: PyTree) -> None:
        del policy

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: None
    ) -> tuple[PyTree, None, Metrics]:
        loss, gradient = loss_and_gradient(objective, policy, batch)
        natural = self.direction(objective, policy, gradient, batch)
        finite = jnp.isfinite(natural.curvature) & jnp.isfinite(natural.solution.relative_residual)
        # `where` and not a scale of zero: the direction may hold what zero does not cancel.
        fixed = jnp.asarray(self.lr, loss.dtype)
        rate = fixed if self.max_kl is None else step_length(self.max_kl, natural.curvature)
        step = jax.tree.map(lambda s: jnp.where(finite, -rate * s, 0.0), natural.direction)
        metrics = self.describe(loss, gradient, natural) | {"step_accepted": finite.astype(loss.dtype)}
        return eqx.apply_updates(policy, step), state, metrics
