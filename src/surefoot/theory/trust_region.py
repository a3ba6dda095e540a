"""Trust regions: steps whose KL divergence from the old policy is bounded.

Minimise L(θ + Δθ) subject to KL(θ ‖ θ + Δθ) ≤ δ. To first order in L and second in the KL, the step is Δθ =
−αx with x = F⁻¹g and α = √(2δ / xᵀFx). It is then shortened until the loss itself is lower and the KL itself
within δ (Schulman et al., 2015, appendix C). The constraint's Lagrange multiplier is β = 1/α.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax.tree
from jaxtyping import Array, Bool, Float, Int, PyTree

from surefoot.theory.conjugate_gradient import Solution, conjugate_gradient, inner_product
from surefoot.theory.fisher import fisher_vector_product
from surefoot.theory.objectives import AbstractObjective


class NaturalDirection(eqx.Module):
    """The natural gradient and its curvature."""

    direction: PyTree
    """x = (F + λI)⁻¹ g: subtract it to descend."""
    curvature: Float[Array, ""]
    """xᵀ(F + λI)x."""
    solution: Solution


def natural_direction(
    objective: AbstractObjective,
    policy: PyTree,
    gradient: PyTree,
    batch: PyTree,
    *,
    damping: float,
    max_iterations: int,
    tolerance: float,
) -> NaturalDirection:
    """x = (F + λI)⁻¹ g by conjugate gradient, where F is the Fisher matrix of `batch` and λ = `damping`
    (Kakade, 2002).

    `gradient` is shaped like the policy's floating-point arrays, and so is the direction.
    """

    def matvec(vector: PyTree) -> PyTree:
        product = fisher_vector_product(objective, policy, batch, vector)
        return optax.tree.add_scale(product, damping, vector)

    solution = conjugate_gradient(matvec, gradient, max_iterations=max_iterations, tolerance=tolerance)
    # (F + λI)x = g − r by the definition of the residual: this saves one more product.
    curvature = inner_product(solution.x, optax.tree.sub(gradient, solution.residual))
    return NaturalDirection(solution.x, curvature, solution)


def step_length(max_kl: Float[Array, ""] | float, curvature: Float[Array, ""]) -> Float[Array, ""]:
    """α = √(2δ / xᵀFx): the multiple of x at which the quadratic model of the KL reaches δ; zero where x has
    no curvature. `max_kl` is δ in nats, `curvature` is xᵀFx (Schulman et al., 2015, appendix C,
    where α is called β)."""
    positive = curvature > 0
    return jnp.where(positive, jnp.sqrt(2.0 * max_kl / jnp.where(positive, curvature, 1.0)), 0.0)


def project_to_ball(step: PyTree, radius: float) -> PyTree:
    """Π(s) = min(1, r/‖s‖) s: the point nearest to s whose Euclidean norm is at most r = `radius`, over all
    arrays of a pytree (Goldstein, 1964). It can be differentiated at zero too, where ‖s‖ cannot."""
    squared = optax.tree.norm(step, squared=True)
    outside = squared > radius**2
    norm = jnp.sqrt(jnp.where(outside, squared, 1.0))
    return optax.tree.scale(jnp.where(outside, radius / norm, 1.0), step)


class LineSearch(eqx.Module):
    """The result of a backtracking line search."""

    policy: PyTree
    """The accepted policy; the old one, unchanged, where `accepted` is False."""
    accepted: Bool[Array, ""]
    loss: Float[Array, ""]
    """The loss at `policy`."""
    kl: Float[Array, ""]
    """KL(old ‖ policy)."""
    attempts: Int[Array, ""]
    """Number of lengths that were tried, the full step included."""


def line_search(
    objective: AbstractObjective,
    policy: PyTree,
    step: PyTree,
    batch: PyTree,
    old_loss: Float[Array, ""],
    *,
    max_kl: Float[Array, ""] | float,
    ratio: float,
    max_backtracks: int,
) -> LineSearch:
    """The first of `policy` + ratioᵏ·`step`, k = 0, 1, …, `max_backtracks`, that lowers the loss, keeps
    KL(old ‖ new) ≤ `max_kl` and has both finite; the old policy if none does.

    `step` is shaped like the policy's floating-point arrays.
    """
    parameters, static = eqx.partition(policy, eqx.is_inexact_array)
    old_prediction = objective.predict(policy, batch)

    def evaluate(candidate: PyTree) -> tuple[Array, Array]:
        def on(part: tuple[PyTree, PyTree]) -> tuple[Array, Array]:
            data, old = part
            new = objective.predict(eqx.combine(candidate, static), data)
            return objective.loss(new, data), objective.divergence(old, new, data)

        return objective.average(on, (batch, old_prediction))

    def attempt(search: LineSearch) -> LineSearch:
        scale = jnp.asarray(ratio, old_loss.dtype) ** search.attempts.astype(old_loss.dtype)
        candidate = optax.tree.add_scale(parameters, scale, step)
        loss, kl = evaluate(candidate)
        accepted = jnp.isfinite(loss) & jnp.isfinite(kl) & (loss < old_loss) & (kl <= max_kl)
        tried = LineSearch(candidate, accepted, loss, kl, search.attempts + 1)
        failed = LineSearch(parameters, accepted, old_loss, jnp.zeros_like(kl), search.attempts + 1)
        return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), tried, failed)

    def turn(search: LineSearch, _: None) -> tuple[LineSearch, None]:
        return jax.lax.cond(search.accepted, lambda s: s, attempt, search), None

    start = LineSearch(
        parameters, jnp.zeros((), bool), old_loss, jnp.zeros_like(old_loss), jnp.zeros((), jnp.int32)
    )
    end, _ = jax.lax.scan(turn, start, length=max_backtracks + 1)
    return eqx.tree_at(lambda s: s.policy, end, eqx.combine(end.policy, static))
