"""Conjugate gradient: solve A x = b for a symmetric positive-definite A known only through its products."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax.tree
from jaxtyping import Array, Float, Int, PyTree


def inner_product(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Σ aᵢ bᵢ over all arrays of two pytrees of one structure."""
    return jnp.asarray(optax.tree.vdot(a, b))


class Solution(eqx.Module):
    """An approximate solution, and its error."""

    x: PyTree
    residual: PyTree
    """b − A x, from the recursion, without a further product."""
    iterations: Int[Array, ""]
    """Number of products with A."""
    relative_residual: Float[Array, ""]
    """‖b − A x‖ / ‖b‖; zero where b is zero."""


class _State(eqx.Module):
    x: PyTree
    r: PyTree
    p: PyTree
    rr: Float[Array, ""]
    iterations: Int[Array, ""]
    running: Array


def conjugate_gradient(
    matvec: Callable[[PyTree], PyTree], b: PyTree, *, max_iterations: int, tolerance: float
) -> Solution:
    """Solves A x = b from x = 0 (Hestenes & Stiefel, 1952), over any pytree of arrays. `matvec(v)` is A v.

    It stops after `max_iterations`, when ‖r‖ ≤ `tolerance`·‖b‖, or when a direction shows no positive
    curvature (pᵀAp ≤ 0 or not finite); it then returns the last iterate, which is never worse than x = 0.
    Where ‖b‖² is not finite it returns zero. The loop has a fixed length, and iterations after the stop are
    skipped, so that it can be differentiated in reverse.
    """
    bb = inner_product(b, b)

    def step(s: _State) -> _State:
        ap = matvec(s.p)
        curvature = inner_product(s.p, ap)
        usable = jnp.isfinite(curvature) & (curvature > 0)
        alpha = jnp.where(usable, s.rr / jnp.where(usable, curvature, 1.0), 0.0)
        x = optax.tree.add_scale(s.x, alpha, s.p)
        # `where` and not 0·Ap: a product that is not finite must not reach the iterate.
        r = jax.tree.map(lambda r, ap: jnp.where(usable, r - alpha * ap, r), s.r, ap)
        rr = inner_product(r, r)
        p = optax.tree.add_scale(r, rr / jnp.where(s.rr > 0, s.rr, 1.0), s.p)
        return _State(x, r, p, rr, s.iterations + 1, usable & (rr > tolerance**2 * bb))

    def turn(s: _State, _: None) -> tuple[_State, None]:
        return jax.lax.cond(s.running, step, lambda s: s, s), None

    solvable = jnp.isfinite(bb) & (bb > 0)
    start = _State(optax.tree.zeros_like(b), b, b, bb, jnp.zeros((), jnp.int32), solvable)
    end, _ = jax.lax.scan(turn, start, length=max_iterations)
    relative = jnp.sqrt(end.rr / jnp.where(bb > 0, bb, 1.0))
    return Solution(end.x, end.r, end.iterations, relative)
