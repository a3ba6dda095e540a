"""Planning in tabular MDPs with a finite horizon."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.envs.tabular_mdp import MDP
from surefoot.theory.dynamic_programming import optimality_backup


def plan(mdp: MDP, horizon: int) -> Float[Array, "time states actions"]:
    """Q_t(s, a) of the best policy, Q_t = r + P max_a Q_{t+1}, with Q_T = 0 (Bellman, 1957)."""

    def backward(q_tp1: Array, _: None) -> tuple[Array, Array]:
        q_t = optimality_backup(q_tp1, mdp.rewards, mdp.transitions, 1.0)
        return q_t, q_t

    _, values = jax.lax.scan(backward, jnp.zeros_like(mdp.rewards), None, length=horizon, reverse=True)
    return values


def optimistic_backward_induction(
    mdp: MDP, radius: Float[Array, "states actions"], horizon: int
) -> Float[Array, "time states actions"]:
    """Q_t(s, a) of the best policy in the best MDP whose P(·|s, a) is within the L1 distance `radius` of the
    given one: extended value iteration (Jaksch et al., 2010, fig. 2).

    The best state gains up to half the radius, and the worst ones lose as much.
    """

    def backward(v_tp1: Array, _: None) -> tuple[Array, Array]:
        order = jnp.argsort(v_tp1)
        sorted_values, chances = v_tp1[order], mdp.transitions[..., order]
        gained = jnp.minimum(chances[..., -1] + radius / 2, 1.0)
        chances = chances.at[..., -1].set(gained)
        excess = chances.sum(axis=-1, keepdims=True) - 1.0
        # From the worst state on, each loses what those before it could not.
        before = jnp.cumsum(chances, axis=-1) - chances
        chances = chances - jnp.clip(excess - before, 0.0, chances)
        q_t = mdp.rewards + chances @ sorted_values
        return jnp.max(q_t, axis=-1), q_t

    start = jnp.zeros(mdp.rewards.shape[0], mdp.rewards.dtype)
    _, values = jax.lax.scan(backward, start, None, length=horizon, reverse=True)
    return values
