"""The natural gradient: steepest descent in the metric of the policy's behaviour."""

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from surefoot.options import NonNegative, Options, Positive, at_least
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.theory.trust_region import NaturalDirection, natural_direction, step_length


@dataclass(frozen=True, kw_only=True)
class NaturalOptions(Options):
    """Options of rules that step along the natural gradient, and the metrics of such a step."""

    cg_iterations: Annotated[int, at_least(1)] = 10
    """Maximal number of conjugate gradient iterations; each takes one product with the Fisher matrix."""
    cg_tolerance: Annotated[float, NonNegative] = 1e-5
    """Relative residual ‖Fx − g‖ / ‖g‖ at which conjugate gradient stops."""
    damping: Annotated[float, NonNegative] = 1e-5
    """λ, added to the diagonal of the Fisher matrix."""
    measures_by_kl = True

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

    lr: Annotated[float, NonNegative] = 0.1
    """Learning rate α; not used where `max_kl` is given."""
    max_kl: Annotated[float | None, Positive] = None
    """KL(old ‖ new) of each step in the quadratic model, δ, in nats; none for a fixed learning rate. The real
    KL is not checked: `trust-region` does that."""
    requires_surrogate = False

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
