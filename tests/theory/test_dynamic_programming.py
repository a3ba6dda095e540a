import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab.exact import policy_iteration, solve
from surefoot.lab.problems import chain, random_policy, random_problem
from surefoot.theory.dynamic_programming import corridor_value, optimality_backup, q_learning_error


def test_a_backup_by_hand():
    values, rewards = jnp.array([[1.0, 3.0], [5.0, 4.0]]), jnp.array([[0.5, 1.0], [0.0, 2.0]])
    transitions = jnp.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.25, 0.75]]])
    found = optimality_backup(values, rewards, transitions, 0.5)
    # The best next values are 3 and 5.
    expected = [[0.5 + 0.5 * 3, 1 + 0.5 * 4], [0.5 * 5, 2 + 0.5 * 4.5]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_error_of_q_learning_by_hand():
    error = q_learning_error(jnp.array(2.0), jnp.array(1.0), 0.5, jnp.array([-1.0, 4.0, 3.0]))
    np.testing.assert_allclose(error, 1 + 0.5 * 4 - 2)


def test_value_iteration_ends_at_the_values_of_policy_iteration_and_contracts(x64: None):
    problem = random_problem(jax.random.key(0), states=5, actions=3, discount=0.8)
    policy = random_policy(jax.random.key(1), problem)
    best = policy_iteration(problem, policy.probabilities)[-1].action_values[0]
    arguments = problem.mdp.rewards, problem.mdp.transitions, problem.discount
    values = jnp.zeros_like(best)
    for _ in range(100):
        following = optimality_backup(values, *arguments)
        assert np.abs(following - best).max() <= 0.8 * np.abs(values - best).max() + 1e-12
        values = following
    np.testing.assert_allclose(values, best, atol=1e-8)


def test_the_value_of_a_policy_is_an_expectation_and_not_a_maximum(x64: None):
    problem = chain(None)
    policy = random_policy(jax.random.key(0), problem)
    exact = solve(problem, policy.probabilities)
    values, action_values = exact.values[0], exact.action_values[0]
    np.testing.assert_allclose(values, np.sum(policy.probabilities * action_values, axis=1), rtol=1e-12)
    assert np.all(action_values.max(axis=1) > values + 0.01)


@pytest.mark.parametrize("p", [0.1, 0.5, 2 - np.sqrt(2), 0.9])
def test_the_corridor_s_value_solves_its_three_equations(p: float, x64: None):
    # V = −1 + M V, with the rows of the chapter's three equations.
    moves = np.array([[1 - p, p, 0.0], [p, 0.0, 1 - p], [0.0, 1 - p, 0.0]])
    expected = np.linalg.solve(np.eye(3) - moves, -np.ones(3))[0]
    np.testing.assert_allclose(corridor_value(jnp.array(p)), expected, rtol=1e-12)


def test_the_corridor_s_best_policy_is_stochastic(x64: None):
    best = 2 - np.sqrt(2)
    np.testing.assert_allclose(corridor_value(jnp.array(best)), -(6 + 4 * np.sqrt(2)), rtol=1e-12)
    assert abs(jax.grad(corridor_value)(jnp.array(best))) < 1e-10
    others = jnp.linspace(0.01, 0.99, 99)
    assert np.all(corridor_value(others) < corridor_value(jnp.array(best)))
