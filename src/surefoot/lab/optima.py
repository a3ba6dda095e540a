"""Policies that maximise the surrogate, with a penalty and without, found by other methods than the rules':
Lagrange multipliers, a linear program, dense matrices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from surefoot.lab.exact import OBJECTIVE, Exact, ExactBatch, fisher_matrix, policy_gradient
from surefoot.lab.problems import Problem, SoftmaxTable
from surefoot.theory.objectives import loss_and_gradient


@dataclass(frozen=True)
class Setup:
    """A problem, a policy, and the steps of two rules from it at a rate of 1."""

    problem: Problem
    policy: SoftmaxTable
    batch: ExactBatch
    probabilities: np.ndarray
    """π_old, `[states actions]`."""
    natural: np.ndarray
    """The step of `NaturalGradient`, `[states actions]`."""
    plain: np.ndarray
    """The step of `GradientStep`, `[states actions]`."""


def penalised_optimum(setup: Setup, beta: float) -> np.ndarray:
    """The policy that maximises Σ_s d(s) [Σ_a π(a|s) A(s, a) − β KL(π_old ‖ π)(s)].

    In each state the derivative vanishes where π(a) = β π_old(a) / (λ − A(a)). The multiplier λ > max A makes
    the sum of π(a) one, which it is at a single λ between max A + β π_old(argmax A) and max A + β.
    """

    def of_state(advantages: np.ndarray, old: np.ndarray) -> np.ndarray:
        behind = (advantages.max() - advantages) / beta
        found = scipy.optimize.root_scalar(  # (λ − max A)/β
            lambda excess: (old / (excess + behind)).sum() - 1.0,
            bracket=(float(old[np.argmax(advantages)]), 1.0),
            xtol=1e-16,
            rtol=1e-15,
        )
        return old / (found.root + behind)

    advantages = np.asarray(setup.batch.gains / setup.batch.weights[:, None])
    return np.stack([of_state(*row) for row in zip(advantages, setup.probabilities, strict=True)])


def stationarity(setup: Setup, betas: Sequence[float], policies: Sequence[np.ndarray]) -> float:
    """The largest derivative of loss + β divergence, divided by 1 + β, at one policy for each β."""

    @jax.jit
    def derivative(policy: SoftmaxTable, beta: Array) -> Array:
        old = OBJECTIVE.predict(setup.policy, setup.batch)

        def penalised(policy: SoftmaxTable) -> Array:
            new = OBJECTIVE.predict(policy, setup.batch)
            return OBJECTIVE.loss(new, setup.batch) + beta * OBJECTIVE.divergence(old, new, setup.batch)

        return jnp.max(jnp.abs(jax.grad(penalised)(policy).table)) / (1.0 + beta)

    tables = [SoftmaxTable(jnp.asarray(np.log(policy))) for policy in policies]
    return max(float(derivative(table, jnp.asarray(beta))) for table, beta in zip(tables, betas, strict=True))


def surrogate_gradient(setup: Setup) -> Callable[[np.ndarray], np.ndarray]:
    """∇L(θ + s) as a function of the step s, both flat, in NumPy."""

    @jax.jit
    def ascent(step: Array) -> Array:
        policy = SoftmaxTable(setup.policy.table + step.reshape(setup.policy.table.shape))
        return -ravel_pytree(loss_and_gradient(OBJECTIVE, policy, setup.batch)[1])[0]

    return lambda step: np.asarray(ascent(jnp.asarray(step)))


def dense_model(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of the surrogate, by the policy gradient theorem, and the Fisher matrix."""
    gradient = policy_gradient(setup.problem, setup.policy) / setup.problem.steps
    return np.asarray(gradient), np.asarray(fisher_matrix(setup.problem, setup.policy))


def unconstrained_optimum(exact: Exact) -> Float[Array, "1 states actions"]:
    """The policy that maximises the surrogate of the policy `exact` without a constraint."""
    return jnp.asarray(best_response(np.einsum("ts,tsa->sa", exact.visits, exact.advantages)))[None]


def best_response(gains: np.ndarray) -> np.ndarray:
    """The policy that maximises Σ_s Σ_a π(a|s) gains(s, a), by a linear program over all policies."""
    states, actions = gains.shape
    sums = np.kron(np.eye(states), np.ones(actions))
    found = scipy.optimize.linprog(-gains.reshape(-1), A_eq=sums, b_eq=np.ones(states), bounds=(0.0, 1.0))
    assert found.success, found.message
    return found.x.reshape(gains.shape)
