"""Advantages: how much better an action was than what the policy does on average.

Values come in pairs, so that the end of a trajectory needs no special case here: `values[t]` = V(s_t) and
`next_values[t]` = V(s_{t+1}), the value of the observation after the step.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from surefoot.theory.averages import valid_mean
from surefoot.theory.returns import reward_to_go
from surefoot.theory.statistics import EPSILON
from surefoot.theory.values import td_targets

_ROUNDING = 100
"""Units of rounding by which the mean of many equal numbers may be wrong."""


def td_residuals(
    rewards: Float[Array, " time"],
    discounts: Float[Array, " time"],
    values: Float[Array, " time"],
    next_values: Float[Array, " time"],
) -> Float[Array, " time"]:
    """δ_t = r_t + γ_t V(s_{t+1}) − V(s_t): a one-step estimate of the advantage (Sutton, 1988)."""
    return td_targets(rewards, discounts, next_values) - values


def gae(
    rewards: Float[Array, " time"],
    discounts: Float[Array, " time"],
    values: Float[Array, " time"],
    next_values: Float[Array, " time"],
    decay: Float[Array, " time"],
) -> Float[Array, " time"]:
    """Generalised advantage estimation: A_t = δ_t + γ_t λ_t A_{t+1}; Schulman et al. (2016), eq. 16.

    `decay[t]` = λ_t: 0 gives the TD residual, 1 the reward-to-go less V(s_t). It must be zero at the last
    step of a trajectory that was cut short: the steps after it belong to another one, although γ_t is not
    zero.

    Padding must be masked by the caller: zero rewards, discounts and values there keep it out of the
    recursion.
    """
    return reward_to_go(td_residuals(rewards, discounts, values, next_values), discounts * decay)


def k_step_advantages(
    rewards: Float[Array, " time"],
    discounts: Float[Array, " time"],
    values: Float[Array, " time"],
    next_values: Float[Array, " time"],
    continues: Float[Array, " time"],
    k: int,
) -> Float[Array, " time"]:
    """A^(k)_t = r_t + γ r_{t+1} + … + γ^{k−1} r_{t+k−1} + γ^k V(s_{t+k}) − V(s_t), with k ≥ 1.

    Mnih et al. (2016), sec. 4; Schulman et al. (2016), eq. 14. It is computed as the sum of k discounted TD
    residuals, A^(k)_t = δ_t + γ_t c_t A^(k−1)_{t+1} with A^(0) = 0, and so it uses as many steps as there are
    where a trajectory ends sooner. `continues[t]` = c_t is one, and zero at the last step of a trajectory
    that was cut short, where nothing after belongs to it although γ_t is not zero (compare `decay` in
    `gae`).

    k = 1 gives the TD residual, k ≥ time what `gae` gives with `decay` = `continues`. Padding must be masked
    by the caller, as there.
    """
    residuals = td_residuals(rewards, discounts, values, next_values)
    reach = discounts * continues

    def extend(_: Array, advantages: Array) -> Array:
        following = jnp.concatenate([advantages[1:], jnp.zeros((1,), advantages.dtype)])
        return residuals + reach * following

    return jax.lax.fori_loop(1, min(k, len(rewards)), extend, residuals)


def normalise(advantages: Float[Array, "*axes"], valid: Bool[Array, "*axes"]) -> Float[Array, "*axes"]:
    """(A − mean) / (standard deviation + ε) over valid steps; padding becomes zero, and so do advantages that
    do not vary.

    Use it within one task: it removes the scale, also that between tasks.
    """
    scale = advantage_scale(advantages, valid)
    return jnp.where(valid, (advantages - valid_mean(advantages, valid)) / scale, 0.0)


def advantage_scale(advantages: Float[Array, "*axes"], valid: Bool[Array, "*axes"]) -> Float[Array, ""]:
    """√(Σ (A − mean)² / n) + ε over the n valid steps, by which `normalise` divides. It is infinite where
    they differ by no more than rounding, so that whatever is measured in it is zero there."""
    variance = _variance(advantages, valid)
    return jnp.where(variance > 0, jnp.sqrt(variance) + EPSILON, jnp.inf)


def explained_variance(
    values: Float[Array, "*axes"], returns: Float[Array, "*axes"], valid: Bool[Array, "*axes"]
) -> Float[Array, ""]:
    """1 − Var(G − V) / Var(G) over valid steps, where `returns` = G and `values` = V.

    1 if the values are right up to a constant; 0 if they are no better than a constant, or if
    the returns do not vary; negative if they are worse than a constant.
    """
    total = _variance(returns, valid)
    left = _variance(returns - values, valid)
    return jnp.where(total > 0, 1 - left / jnp.where(total > 0, total, 1.0), 0.0)


def _variance(values: Float[Array, "*axes"], valid: Bool[Array, "*axes"]) -> Float[Array, ""]:
    """The variance over valid steps; zero where they differ by no more than rounding."""
    variance = valid_mean((values - valid_mean(values, valid)) ** 2, valid)
    rounding = (_ROUNDING * jnp.finfo(values.dtype).eps) ** 2 * valid_mean(values**2, valid)
    return jnp.where(variance > rounding, variance, 0.0)
