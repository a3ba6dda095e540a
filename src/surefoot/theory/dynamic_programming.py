"""Dynamic programming: the best values of states and actions, from which a policy follows.

The alternative to policy optimisation, for comparison; the algorithms of this library do not use it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def optimality_backup(
    action_values: Float[Array, "states actions"],
    rewards: Float[Array, "states actions"],
    transitions: Float[Array, "states actions states"],
    discount: float,
) -> Float[Array, "states actions"]:
    """(TQ)(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) max_a' Q(s', a'), a round of value
    iteration (Bellman, 1957).

    The largest difference of any two tables shrinks to at most γ times itself, so that for γ < 1 repeated
    rounds converge to Q*.
    """
    return rewards + discount * (transitions @ jnp.max(action_values, axis=-1))


def q_learning_error(
    action_value: Float[Array, ""],
    reward: Float[Array, ""],
    discount: Float[Array, ""] | float,
    next_action_values: Float[Array, " actions"],
) -> Float[Array, ""]:
    """r + γ max_a' Q(s', a') − Q(s, a): the error of one transition, a rate times which Q-learning adds to
    Q(s, a) (Watkins & Dayan, 1992).

    `action_value` is Q(s, a) and `next_action_values` are Q(s', ·). The action may come from any policy.
    """
    return reward + discount * jnp.max(next_action_values) - action_value


def corridor_value(p: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """V_1(p) = −2(2 − p) / (p(1 − p)): the value of going right with probability p, from 0 to 1 exclusive, in
    a corridor whose three places look alike and whose second one exchanges left and right (Sutton & Barto,
    2018, example 13.1)."""
    return -2.0 * (2.0 - p) / (p * (1.0 - p))
