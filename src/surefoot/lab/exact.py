"""Exact values, gradients and Fisher matrices of tabular problems.

There are two ways to each quantity. `solve` finds the values by backward induction, or by a linear solve if
episodes never end; the policy gradient theorem and the definition of the Fisher matrix give the rest.
`all_trajectories` lists every trajectory with its probability, so that any expectation is a finite sum.

Do not call `solve` under `jax.vmap` if episodes never end: a batched linear solve is another routine, which
can hang on two cores.
"""

from collections.abc import Callable
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from surefoot.lab.problems import Episodes, Problem, SoftmaxTable
from surefoot.options import check
from surefoot.theory.distributions import Categorical
from surefoot.theory.objectives import AbstractObjective

_MOST_TRAJECTORIES = 200_000


class Exact(eqx.Module):
    """The values and state distributions of a policy on a problem.

    The axis `time` has the T steps of an episode. If episodes never end, nothing depends on the time: the
    axis has length 1, and `occupancy` is the discounted one, (1 − γ) Σ_t γᵗ P(s_t = s).
    """

    values: Float[Array, "time states"]
    """V_t(s) = E[Σ_{k≥t} γᵏ⁻ᵗ r_k | s_t = s]."""
    action_values: Float[Array, "time states actions"]
    """Q_t(s, a) = r(s, a) + γ E[V_{t+1}(s')]."""
    occupancy: Float[Array, "time states"]
    """P(s_t = s); each row sums to 1."""
    weights: Float[Array, " time"]
    """The weight of each row in J: γᵗ, or 1/(1 − γ) if episodes never end."""
    value: Float[Array, ""]
    """J = Σ_s P(s_0 = s) V_0(s)."""

    @property
    def advantages(self) -> Float[Array, "time states actions"]:
        """A_t(s, a) = Q_t(s, a) − V_t(s)."""
        return self.action_values - self.values[..., None]

    @property
    def visits(self) -> Float[Array, "time states"]:
        """γᵗ P(s_t = s), the measure of the policy gradient theorem; it sums to `problem.steps`."""
        return self.weights[:, None] * self.occupancy

    @property
    def state_distribution(self) -> Float[Array, " states"]:
        """The mean of `occupancy` over time: the probability that a step of a batch is in each state."""
        return jnp.mean(self.occupancy, axis=0)


def solve(problem: Problem, probabilities: Float[Array, "*time states actions"]) -> Exact:
    """Exact values and state distributions of π_t(a|s) = `probabilities` (Sutton & Barto, 2018, sec. 4.1).

    It can be differentiated by `probabilities` and by the problem's arrays.
    """
    probabilities = jnp.broadcast_to(probabilities, (problem.horizon or 1, problem.states, problem.actions))
    if problem.horizon is None:
        return _solve_forever(problem, probabilities[0])
    return _solve_episode(problem, probabilities)


def _solve_episode(problem: Problem, probabilities: Float[Array, "time states actions"]) -> Exact:
    """Backward induction for the values, and the chain run forward for the occupancy."""

    def backward(v_tp1: Array, pi_t: Array) -> tuple[Array, tuple[Array, Array]]:
        q_t = problem.mdp.rewards + problem.discount * (problem.mdp.transitions @ v_tp1)
        v_t = jnp.sum(pi_t * q_t, axis=-1)
        return v_t, (v_t, q_t)

    def forward(d_t: Array, pi_t: Array) -> tuple[Array, Array]:
        return jnp.einsum("s,sa,sap->p", d_t, pi_t, problem.mdp.transitions), d_t

    _, (values, action_values) = jax.lax.scan(
        backward, jnp.zeros_like(problem.start), probabilities, reverse=True
    )
    _, occupancy = jax.lax.scan(forward, problem.start, probabilities)
    return Exact(values, action_values, occupancy, problem.discount_powers, problem.start @ values[0])


def _solve_forever(problem: Problem, probabilities: Float[Array, "states actions"]) -> Exact:
    """V = (I − γ P_π)⁻¹ r_π and the visits d = (I − γ P_π)⁻ᵀ d_0."""
    mdp = problem.mdp
    chain = jnp.einsum("sa,sap->sp", probabilities, mdp.transitions)
    system = jnp.eye(problem.states, dtype=chain.dtype) - problem.discount * chain
    values = jnp.linalg.solve(system, jnp.sum(probabilities * mdp.rewards, axis=-1))
    visits = jnp.linalg.solve(system.T, problem.start)
    action_values = mdp.rewards + problem.discount * (mdp.transitions @ values)
    weights = jnp.asarray([problem.steps], values.dtype)
    return Exact(
        values[None], action_values[None], visits[None] / weights[:, None], weights, problem.start @ values
    )


def policy_gradient(problem: Problem, policy: SoftmaxTable) -> Float[Array, " parameters"]:
    """∇J = Σ_t γᵗ Σ_s P(s_t = s) Σ_a ∇π(a|s) Q_t(s, a), over the flattened parameters: the policy gradient
    theorem (Sutton et al., 2000).

    Without a discount it is T times the expectation of ∇log π(a|s) A, averaged over the valid steps.
    """
    exact = solve(problem, policy.probabilities)
    weights = jnp.einsum("ts,tsa->sa", exact.visits, exact.action_values)
    return eqx.filter_grad(lambda policy: jnp.sum(weights * policy.probabilities))(policy).table.reshape(-1)


def fisher_matrix(problem: Problem, policy: SoftmaxTable) -> Float[Array, "parameters parameters"]:
    """F = Σ_s d(s) Σ_a π(a|s) ∇log π(a|s) ∇log π(a|s)ᵀ over the flattened parameters, with d the
    `state_distribution` (Kakade, 2002; Schulman et al., 2015, eq. 12).

    It is the Hessian of the mean KL, and averaged over steps in the same way: every step of an episode has
    the same weight, whatever the discount.
    """
    probabilities, scores = policy.probabilities, policy.scores
    weights = solve(problem, probabilities).state_distribution[:, None] * probabilities
    return jnp.einsum("sa,sai,saj->ij", weights, scores, scores)


def step_scores(policy: SoftmaxTable, episodes: Episodes) -> Float[Array, "*n time parameters"]:
    """∇log π(a_t|s_t) over the flattened parameters."""
    return policy.scores[episodes.states, episodes.actions]


def log_probs(policy: SoftmaxTable, episodes: Episodes) -> Float[Array, "*n time"]:
    """log π(a_t|s_t)."""
    return jnp.log(policy.probabilities)[episodes.states, episodes.actions]


def greedy(exact: Exact) -> Float[Array, "time states actions"]:
    """The greedy policy argmax_a A_t(s, a) as probabilities; of equal actions the first."""
    advantages = exact.advantages
    return jax.nn.one_hot(jnp.argmax(advantages, axis=-1), advantages.shape[-1], dtype=advantages.dtype)


def policy_iteration(
    problem: Problem,
    probabilities: Float[Array, "states actions"],
    improve: Callable[[Exact], Float[Array, "time states actions"]] = greedy,
) -> tuple[Exact, ...]:
    """The policies of policy iteration, from the first to an optimal one; in an episode they depend on the
    time (Howard, 1960; Sutton & Barto, 2018, sec. 4.3).

    It ends when no value V_t(s) grows by more than 1e-10 × (1 + |V_t(s)|). J would not do: it ignores the
    states that the first policies do not reach.
    """
    find = eqx.filter_jit(solve)
    history = [find(problem, probabilities[None])]
    grows = True
    while grows:
        history.append(find(problem, improve(history[-1])))
        old, new = (np.asarray(exact.values) for exact in history[-2:])
        grows = np.any(new - old > 1e-10 * (1.0 + np.abs(old)))
    return tuple(history)


def all_trajectories(problem: Problem, policy: SoftmaxTable) -> tuple[Episodes, Float[Array, " n"]]:
    """Every possible episode, with its mean rewards r(s_t, a_t), and its probability
    P(τ) = P(s_0) Π_t π(a_t|s_t) P(s_{t+1}|s_t, a_t). The policy must have full support.

    Raises `UserError` if episodes never end, or if there are more than 200,000 state-action sequences.
    """
    check(problem.horizon is not None, "horizon", problem.horizon, "finite, to list all trajectories")
    assert problem.horizon is not None
    number = (problem.states * problem.actions) ** problem.horizon
    check(number <= _MOST_TRAJECTORIES, "horizon", problem.horizon, f"small: {number} trajectories follow")
    pairs = list(product(range(problem.states), range(problem.actions)))
    paths = np.array(list(product(pairs, repeat=problem.horizon)), np.int32)
    states, actions = paths[..., 0], paths[..., 1]
    moves = np.asarray(problem.mdp.transitions)[states[:, :-1], actions[:, :-1], states[:, 1:]]
    chance = np.asarray(problem.start)[states[:, 0]] * moves.prod(axis=1)
    states, actions, chance = (jnp.asarray(x[chance > 0]) for x in (states, actions, chance))
    episodes = Episodes(states, actions, problem.mdp.rewards[states, actions])
    return episodes, chance * jnp.exp(jnp.sum(log_probs(policy, episodes), axis=-1))


class ExactBatch(eqx.Module):
    """The batch of `ExactSurrogate`: every state and action, weighted as the old policy visits them."""

    observations: Float[Array, "states states"]
    gains: Float[Array, "states actions"]
    """Σ_t γᵗ P(s_t = s) A_t(s, a), divided by `problem.steps`."""
    weights: Float[Array, " states"]
    """The state distribution over which the KL is averaged; it sums to 1."""


def exact_batch(problem: Problem, policy: SoftmaxTable) -> ExactBatch:
    """The batch of `ExactSurrogate` with `policy` as the old one."""
    exact = solve(problem, policy.probabilities)
    gains = jnp.einsum("ts,tsa->sa", exact.visits, exact.advantages) / problem.steps
    return ExactBatch(problem.observations, gains, exact.state_distribution)


class ExactSurrogate(AbstractObjective):
    """The surrogate and the mean KL of TRPO as expectations under the old policy, not as means of a sample:

    loss(π) = −(1/N) Σ_t γᵗ E[Σ_a π(a|s_t) A_t(s_t, a)], N = `problem.steps`, and Σ_s d(s) KL(π_old ‖ π)(s)
    (Schulman et al., 2015, eqs 3 and 12). At the old policy the loss is zero and its gradient is −∇J/N.
    """

    def predict(self, policy: PyTree, batch: ExactBatch) -> Categorical:
        return policy(batch.observations)

    def loss(self, prediction: Categorical, batch: ExactBatch) -> Float[Array, ""]:
        return -jnp.sum(jax.nn.softmax(prediction.logits) * batch.gains)

    def divergence(self, old: Categorical, new: Categorical, batch: ExactBatch) -> Float[Array, ""]:
        return jnp.sum(batch.weights * old.kl(new))


OBJECTIVE = ExactSurrogate()
