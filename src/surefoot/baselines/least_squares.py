"""Least squares for small problems that may be vmapped.

Written with plain array operations and not with LAPACK, whose batched routines in jaxlib (at least up to
0.10) block a thread of XLA's pool until other threads of the same pool have done the work. Two such calls at
a time deadlock on a machine with two cores.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def ridge_regression(
    x: Float[Array, "samples features"],
    y: Float[Array, " samples"],
    valid: Bool[Array, " samples"],
    ridge: float,
) -> Float[Array, " features"]:
    """The w that minimises Σ (w·x − y)² + n·ridge·Σ (cⱼwⱼ)² over the n valid samples, with cⱼ the root mean
    square of feature j.

    The method is modified Gram-Schmidt on the samples (Björck, 1967), which does not square the condition
    number as the normal equations do. Without a penalty, a feature that depends linearly on those before it
    has the weight zero; with one, equal features share theirs.
    """
    n = jnp.maximum(jnp.sum(valid), 1).astype(x.dtype)
    x = jnp.where(valid[:, None], x, 0.0)
    y = jnp.where(valid, y, 0.0)
    scale = jnp.sqrt(jnp.sum(x**2, axis=0) / n)
    scale = jnp.where(scale > 0, scale, 1.0)
    features = x.shape[1]
    penalty = jnp.sqrt(n * ridge) * jnp.eye(features, dtype=x.dtype)
    system = jnp.concatenate([x / scale, penalty])
    target = jnp.concatenate([y, jnp.zeros(features, y.dtype)])
    return _solve(jnp.column_stack([system, target])) / scale


def _solve(system: Float[Array, "rows columns"]) -> Float[Array, " features"]:
    """The least-squares solution of a system whose last column is the target."""
    features = system.shape[1] - 1
    # A column that is shorter than this once it is orthogonal to those before it is rounding error.
    shortest = 10 * jnp.finfo(system.dtype).eps * jnp.linalg.norm(system[:, :features], axis=0)

    def orthogonalise(system: Array, j: Int[Array, ""]) -> tuple[Array, Array]:
        norm = jnp.linalg.norm(system[:, j])
        independent = norm > shortest[j]
        q = jnp.where(independent, system[:, j] / jnp.where(independent, norm, 1.0), 0.0)
        row = q @ system
        return system - jnp.outer(q, row), row

    def substitute(w: Array, j: Int[Array, ""]) -> tuple[Array, None]:
        pivot = r[j, j]
        value = (r[j, features] - r[j, :features] @ w) / jnp.where(pivot > 0, pivot, 1.0)
        return w.at[j].set(jnp.where(pivot > 0, value, 0.0)), None

    _, r = jax.lax.scan(orthogonalise, system, jnp.arange(features))
    w, _ = jax.lax.scan(substitute, jnp.zeros(features, system.dtype), jnp.arange(features), reverse=True)
    return w
