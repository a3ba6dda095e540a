"""The policy gradient over whole trajectories, with a score for each trajectory and parameter.

∇J = E[∇log P(τ) R(τ)], and ∇log P(τ) = Σ_t ∇log π(a_t|s_t), the *score*: the dynamics do not depend on the
parameters. Since the score's mean is zero, any constant may be subtracted from R, also a different one for
each parameter (Williams, 1992). Where only the gradient is wanted, losses are cheaper (see `objectives`); the
optimal baseline and the gradient's variance need a separate score for each trajectory.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.types import masked


def score(policy: Any, observations: PyTree, actions: Array, valid: Bool[Array, " time"]) -> PyTree:
    """ψ = Σ_t ∇log π(a_t|s_t) over the valid steps of one trajectory, shaped like the policy's floating-point
    arrays.

    `observations` are `[time ...]`, whatever the policy accepts, and `actions` `[time]` or `[time act]`.
    Padding may hold anything.
    """
    # Before the policy sees them and not after: zero times the slope at a NaN is a NaN.
    known, taken = masked((observations, actions), valid)

    def log_likelihood(policy: Any) -> Array:
        return jnp.sum(jnp.where(valid, policy(known).log_prob(taken), 0.0))

    return eqx.filter_grad(log_likelihood)(policy)


def optimal_baseline(
    scores: PyTree, returns: Float[Array, " trajectory"], *, leave_one_out: bool = False
) -> PyTree:
    """b = Σ_i ψ_i² R_i / Σ_i ψ_i², for each parameter: the constant that minimises the variance of ψ (R − b)
    (Greensmith et al., 2004; Peters & Schaal, 2008). Zero where no trajectory has a score.

    Each array of `scores` is `[trajectory ...]`, as `jax.vmap(score)` makes them; the result lacks that axis.

    If it is computed from the same trajectories whose returns it is subtracted from, the gradient has a bias
    of the order of one over their number. With `leave_one_out`, the result keeps the axis, and b_i is
    the formula without trajectory i: it is independent of ψ_i, and the gradient is unbiased.
    """

    summed = _sum_of_others if leave_one_out else _sum

    def baseline(s: Array) -> Array:
        numerator, denominator = summed(s**2 * _along(returns, s)), summed(s**2)
        known = denominator > 0
        return jnp.where(known, numerator / jnp.where(known, denominator, 1.0), 0.0)

    return jax.tree.map(baseline, scores)


def policy_gradient(
    scores: PyTree, returns: Float[Array, " trajectory"], baseline: PyTree | float = 0.0
) -> PyTree:
    """g = mean_i ψ_i (R_i − b): the gradient of the expected return, shaped like the policy's parameters.

    The likelihood-ratio gradient (Williams, 1992; Peters & Schaal, 2008). `baseline` is one number for all,
    or the result of `optimal_baseline`.
    """
    one_for_all = eqx.is_array_like(baseline) and jnp.ndim(baseline) == 0
    baselines = jax.tree.map(lambda _: baseline, scores) if one_for_all else baseline
    return jax.tree.map(lambda s, b: jnp.mean(s * (_along(returns, s) - b), axis=0), scores, baselines)


def _along(returns: Float[Array, " trajectory"], s: Array) -> Array:
    """The returns with axes of size one, to be multiplied with `[trajectory ...]`."""
    return jnp.expand_dims(returns, range(1, s.ndim))


def _sum(x: Array) -> Array:
    return jnp.sum(x, axis=0)


def _sum_of_others(x: Array) -> Array:
    """Σ_{j≠i} x_j for every i, as the sum before i plus the sum after it. Subtracting x_i from the whole sum
    would leave rounding errors where the others are zero."""
    none = jnp.zeros_like(x[:1])
    before = jnp.cumsum(jnp.concatenate([none, x[:-1]]), axis=0)
    after = jnp.cumsum(jnp.concatenate([none, x[:0:-1]]), axis=0)[::-1]
    return before + after
