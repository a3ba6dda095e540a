"""What is best by the surrogate, with a penalty and without, found by other ways than the rules': by
multipliers, by a linear program, by dense matrices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from surefoot.lab.exact import Expectation, Steps, fisher_matrix, policy_gradient, solve
from surefoot.lab.problems import Problem, SoftmaxTable
from surefoot.theory.objectives import loss_and_gradient

OBJECTIVE = Expectation()


@dataclass(frozen=True)
class Setup:
    """A problem, a policy, and what the rules make of the two at a rate of 1."""

    problem: Problem
    policy: SoftmaxTable
    batch: Steps
    probabilities: np.ndarray
    """π_old, `[states actions]`."""
    natural: np.ndarray
    """The step of `NaturalGradient`, `[states actions]`."""
    plain: np.ndarray
    """The step of `GradientStep`."""


def penalised_optimum(setup: Setup, beta: float) -> np.ndarray:
    """The policy that maximises Σ_s d(s) [Σ_a π(a|s) A(s, a) − β KL(π_old ‖ π)(s)], state by state.

    Its slope vanishes where π(a) = β π_old(a) / (λ − A(a)); the multiplier λ > max A makes the sum one, which
    it is at a single λ between max A + β π_old(argmax A) and max A + β.
    """
    advantages = np.asarray(setup.batch.gains / setup.batch.weights[:, None])
    return np.stack(
        [_optimum_of_state(a, p, beta) for a, p in zip(advantages, setup.probabilities, strict=True)]
    )


def _optimum_of_state(advantages: np.ndarray, old: np.ndarray, beta: float) -> np.ndarray:
    behind = (advantages.max() - advantages) / beta

    def policy(excess: float) -> np.ndarray:
        return old / (excess + behind)

    least = float(old[np.argmax(advantages)])
    found = scipy.optimize.root_scalar(
        lambda excess: policy(excess).sum() - 1.0, bracket=(least, 1.0), xtol=1e-16, rtol=1e-15
    )
    return policy(found.root)


def stationarity(setup: Setup, prices: Sequence[float], policies: Sequence[np.ndarray]) -> float:
    """The largest slope of loss + β divergence, over 1 + β, at a policy for each β, by differentiating."""

    @jax.jit
    def slope(policy: SoftmaxTable, beta: Array) -> Array:
        old = OBJECTIVE.predict(setup.policy, setup.batch)

        def penalised(policy: SoftmaxTable) -> Array:
            new = OBJECTIVE.predict(policy, setup.batch)
            return OBJECTIVE.loss(new, setup.batch) + beta * OBJECTIVE.divergence(old, new, setup.batch)

        return jnp.max(jnp.abs(jax.grad(penalised)(policy).table)) / (1.0 + beta)

    tables = [SoftmaxTable(jnp.asarray(np.log(policy))) for policy in policies]
    return max(float(slope(table, jnp.asarray(beta))) for table, beta in zip(tables, prices, strict=True))


def surrogate_gradient(setup: Setup) -> Callable[[np.ndarray], np.ndarray]:
    """∇L(θ + s) as a function of the step s, both flat, in NumPy."""

    @jax.jit
    def ascent(step: Array) -> Array:
        policy = SoftmaxTable(setup.policy.table + step.reshape(setup.policy.table.shape))
        return -ravel_pytree(loss_and_gradient(OBJECTIVE, policy, setup.batch)[1])[0]

    return lambda step: np.asarray(ascent(jnp.asarray(step)))


def dense_model(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of a step's mean advantage, by the policy gradient theorem, and the Fisher matrix."""
    gradient = ravel_pytree(policy_gradient(setup.problem, setup.policy))[0] / setup.problem.steps
    return np.asarray(gradient), np.asarray(fisher_matrix(setup.problem, setup.policy))


def unconstrained_values(problem: Problem, probabilities: Float[Array, "states actions"]) -> list[float]:
    """J of the policies that maximise the surrogate without a constraint, one after another, until it no
    longer grows."""
    find = eqx.filter_jit(solve)
    exact = find(problem, probabilities)
    values = [float(exact.value)]
    while len(values) < 2 or values[-1] > values[-2] + 1e-9:
        gains = np.einsum("ts,tsa->sa", exact.visits, exact.advantages)
        exact = find(problem, jnp.asarray(best_response(gains)))
        values.append(float(exact.value))
    return values


def best_response(gains: np.ndarray) -> np.ndarray:
    """The policy that maximises Σ_s Σ_a π(a|s) gains(s, a), as a linear program over all policies."""
    states, actions = gains.shape
    sums = np.kron(np.eye(states), np.ones(actions))
    found = scipy.optimize.linprog(-gains.reshape(-1), A_eq=sums, b_eq=np.ones(states), bounds=(0.0, 1.0))
    assert found.success, found.message
    return found.x.reshape(gains.shape)
