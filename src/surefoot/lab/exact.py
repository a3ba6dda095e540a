"""What there is to know of a tabular problem, exactly: values, gradients and Fisher matrices.

Two ways lead to each quantity. `solve` finds the values by backward induction, or by one linear solve where
the episode never ends, and the policy gradient theorem and the definition of the Fisher matrix do the rest.
`all_trajectories` lists whatever can happen, with its probability, so that any expectation is a finite sum.

Nothing here that solves a linear system may be called under `jax.vmap`: a batched solve is another routine,
which can wait for ever on two cores. Episodes of finite length need none.
"""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from surefoot.lab.problems import Problem, action_probabilities
from surefoot.options import check
from surefoot.theory.distributions import Categorical
from surefoot.theory.objectives import AbstractObjective

_MOST_TRAJECTORIES = 200_000


class Exact(eqx.Module):
    """All there is to know about a policy on a problem.

    The axis `time` has the T steps of an episode; where episodes never end it has length 1, since nothing
    depends on the time there, and `occupancy` is then the discounted one, (1 − γ) Σ_t γᵗ P(s_t = s).
    """

    values: Float[Array, "time states"]
    """V_t(s) = E[Σ_{k≥t} γᵏ⁻ᵗ r_k | s_t = s]."""
    action_values: Float[Array, "time states actions"]
    """Q_t(s, a) = r(s, a) + γ E[V_{t+1}(s')]."""
    occupancy: Float[Array, "time states"]
    """P(s_t = s); each row sums to 1."""
    weights: Float[Array, " time"]
    """What each row counts in J: γᵗ, or 1/(1 − γ) where episodes never end."""
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
        """The mean of `occupancy` over time: how often a step of a batch is in each state."""
        return jnp.mean(self.occupancy, axis=0)


def solve(problem: Problem, probabilities: Float[Array, "*time states actions"]) -> Exact:
    """Everything about the policy π_t(a|s) = `probabilities`, with or without an axis of time.

    Differentiable in `probabilities` and in the problem's arrays. Sutton & Barto (2018), sec. 4.1.
    """
    probabilities = _in_time(problem, probabilities)
    if problem.horizon is None:
        return _solve_forever(problem, probabilities[0])
    return _solve_episode(problem, probabilities)


def _in_time(
    problem: Problem, probabilities: Float[Array, "*time states actions"]
) -> Float[Array, "time states actions"]:
    """With an axis of time: of length 1 where episodes never end."""
    return jnp.broadcast_to(probabilities, (problem.horizon or 1, problem.states, problem.actions))


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
    weights = jnp.asarray([problem.discount**t for t in range(len(probabilities))], occupancy.dtype)
    return Exact(values, action_values, occupancy, weights, problem.start @ values[0])


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


def value(problem: Problem, policy: PyTree) -> Float[Array, ""]:
    """J(θ), which can be differentiated."""
    return solve(problem, action_probabilities(problem, policy)).value


def policy_gradient(problem: Problem, policy: PyTree) -> PyTree:
    """∇J = Σ_t γᵗ Σ_s P(s_t = s) Σ_a ∇π(a|s) Q_t(s, a): the policy gradient theorem (Sutton et al., 2000).

    Shaped like the policy's floating-point arrays. Without a discount it is T times what the mean over the
    valid steps of ∇log π(a|s) A estimates.
    """
    exact = solve(problem, action_probabilities(problem, policy))
    weights = jnp.einsum("ts,tsa->sa", exact.visits, exact.action_values)
    return eqx.filter_grad(lambda policy: jnp.sum(weights * action_probabilities(problem, policy)))(policy)


def fisher_matrix(problem: Problem, policy: PyTree) -> Float[Array, "parameters parameters"]:
    """F = Σ_s d(s) Σ_a π(a|s) ∇log π(a|s) ∇log π(a|s)ᵀ over the flattened parameters, with d the
    `state_distribution`.

    So it is averaged over steps as the mean KL is, whose Hessian it is: in an episode every step counts the
    same, whatever the discount (Kakade, 2002; Schulman et al., 2015, eq. 12).
    """
    probabilities = action_probabilities(problem, policy)
    weights = solve(problem, probabilities).state_distribution[:, None] * probabilities
    scores = score_table(problem, policy)
    return jnp.einsum("sa,sai,saj->ij", weights, scores, scores)


def score_table(problem: Problem, policy: PyTree) -> Float[Array, "states actions parameters"]:
    """∇log π(a|s) over the flattened parameters, for each state and action."""
    parameters, static = eqx.partition(policy, eqx.is_inexact_array)
    vector, unravel = ravel_pytree(parameters)

    def log_probs(vector: Array) -> Array:
        return jax.nn.log_softmax(eqx.combine(unravel(vector), static)(problem.observations).logits)

    return jax.jacobian(log_probs)(vector)


def greedy(exact: Exact) -> Float[Array, "time states actions"]:
    """π'_t(s) = argmax_a A_t(s, a), as probabilities; the first of equals."""
    advantages = exact.advantages
    return jax.nn.one_hot(jnp.argmax(advantages, axis=-1), advantages.shape[-1], dtype=advantages.dtype)


def policy_iteration(
    problem: Problem, probabilities: Float[Array, "*time states actions"], *, tolerance: float = 1e-10
) -> tuple[Exact, ...]:
    """The policies that exact greedy improvement goes through, the first and an optimal one included; in an
    episode they depend on the time (Howard, 1960; Sutton & Barto, 2018, sec. 4.3).

    It ends when no value V_t(s) grows by more than `tolerance` × (1 + |V_t(s)|).
    """
    find = eqx.filter_jit(solve)
    history = [find(problem, _in_time(problem, probabilities))]
    while len(history) < 2 or _grew(history[-2], history[-1], tolerance):
        history.append(find(problem, greedy(history[-1])))
    return tuple(history)


def _grew(before: Exact, after: Exact, tolerance: float) -> bool:
    """Whether any state's value did; J says nothing of states that the start does not lead to yet."""
    old, new = np.asarray(before.values), np.asarray(after.values)
    return bool(np.any(new - old > tolerance * (1.0 + np.abs(old))))


class Trajectories(eqx.Module):
    """Everything that can happen in an episode."""

    states: Int[Array, "n time"]
    actions: Int[Array, "n time"]
    rewards: Float[Array, "n time"]
    """The mean rewards r(s_t, a_t)."""
    chance: Float[Array, " n"]
    """The environment's part of the probability: P(s_0) Π_t P(s_{t+1}|s_t, a_t)."""

    def log_probs(self, problem: Problem, policy: PyTree) -> Float[Array, "n time"]:
        """log π(a_t|s_t)."""
        return jnp.log(action_probabilities(problem, policy))[self.states, self.actions]

    def probabilities(self, problem: Problem, policy: PyTree) -> Float[Array, " n"]:
        """P(τ) = P(s_0) Π_t π(a_t|s_t) P(s_{t+1}|s_t, a_t); they sum to 1."""
        return self.chance * jnp.exp(jnp.sum(self.log_probs(problem, policy), axis=-1))

    def returns(self, problem: Problem) -> Float[Array, " n"]:
        """R = Σ_t γᵗ r_t."""
        powers = [problem.discount**t for t in range(self.rewards.shape[-1])]
        return self.rewards @ jnp.asarray(powers, self.rewards.dtype)


def all_trajectories(problem: Problem) -> Trajectories:
    """Every trajectory that a policy with full support can take.

    Raises `UserError` where there would be too many to list, or no end to them.
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
    return Trajectories(states, actions, problem.mdp.rewards[states, actions], chance)


class Steps(eqx.Module):
    """What the exact objective learns from: every state and action, as they count at the old policy."""

    observations: Float[Array, "states states"]
    gains: Float[Array, "states actions"]
    """Σ_t γᵗ P(s_t = s) A_t(s, a), over `problem.steps`."""
    weights: Float[Array, " states"]
    """The state distribution over which the KL is averaged; it sums to 1."""


class Expectation(AbstractObjective):
    """The surrogate and the mean KL of TRPO as expectations under the old policy, not as means of a sample:

    loss(π) = −(1/N) Σ_t γᵗ E[Σ_a π(a|s_t) A_t(s_t, a)], N = `problem.steps`, and Σ_s d(s) KL(π_old ‖ π)(s)
    (Schulman et al., 2015, eqs 3 and 12). It is zero at the old policy, and its slope there is −∇J/N.
    """

    def predict(self, policy: PyTree, batch: Steps) -> Categorical:
        return policy(batch.observations)

    def loss(self, prediction: Categorical, batch: Steps) -> Float[Array, ""]:
        return -jnp.sum(jax.nn.softmax(prediction.logits) * batch.gains)

    def divergence(self, old: Categorical, new: Categorical, batch: Steps) -> Float[Array, ""]:
        return jnp.sum(batch.weights * old.kl(new))

    def average(self, f, batch):
        """All of it at once; its arrays are sums already."""
        return f(batch)


def steps_of(problem: Problem, policy: PyTree) -> Steps:
    """The batch of `Expectation` at `policy`, the old one."""
    exact = solve(problem, action_probabilities(problem, policy))
    gains = jnp.einsum("ts,tsa->sa", exact.visits, exact.advantages) / problem.steps
    return Steps(problem.observations, gains, exact.state_distribution)
