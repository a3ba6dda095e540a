"""Each exact quantity, found in two ways that share nothing."""

from dataclasses import replace
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import fisher_matrix as fisher_products, kl_hessian, ravel
from surefoot.envs import TabularMDP
from surefoot.lab.exact import (
    Expectation,
    all_trajectories,
    fisher_matrix,
    greedy,
    policy_gradient,
    policy_iteration,
    score_table,
    solve,
    steps_of,
    value,
)
from surefoot.lab.problems import (
    Problem,
    action_probabilities,
    chain,
    random_policy,
    random_problem,
    reparametrised,
    two_states,
)
from surefoot.options import UserError
from surefoot.theory.objectives import loss_and_gradient

PROBLEMS = {
    "chain": lambda: chain(3, 0.9),
    "chain, undiscounted": lambda: chain(4, 1.0),
    "two states": lambda: two_states(4, 0.7),
    "chain for ever": lambda: chain(None, 0.9),
    "random for ever": lambda: random_problem(jax.random.key(5)),
}
EPISODES = [name for name in PROBLEMS if "for ever" not in name]


def policy_for(problem: Problem, *, mixed: bool = False, seed: int = 1) -> Any:
    policy = random_policy(jax.random.key(seed), problem)
    if not mixed:
        return policy
    size = problem.states * problem.actions
    return reparametrised(policy, np.random.default_rng(seed).normal(size=(size, size)))


@pytest.mark.parametrize("name", EPISODES)
def test_the_value_is_the_mean_over_all_trajectories(name: str, x64: None):
    problem = PROBLEMS[name]()
    policy = policy_for(problem)
    paths = all_trajectories(problem)
    probabilities = paths.probabilities(problem, policy)
    np.testing.assert_allclose(probabilities.sum(), 1.0, atol=1e-12)
    expected = probabilities @ paths.returns(problem)
    np.testing.assert_allclose(value(problem, policy), expected, rtol=1e-12)


def test_values_action_values_and_occupancy_are_conditional_means(x64: None):
    problem = chain(3, 0.9)
    policy = policy_for(problem)
    exact = solve(problem, action_probabilities(problem, policy))
    paths = all_trajectories(problem)
    p = np.asarray(paths.probabilities(problem, policy))
    for t, s in product(range(3), range(3)):
        here = np.asarray(paths.states[:, t] == s)
        np.testing.assert_allclose(exact.occupancy[t, s], p[here].sum(), atol=1e-12)
        later = np.asarray(paths.rewards)[:, t:] @ 0.9 ** np.arange(3 - t)
        if here.any():
            np.testing.assert_allclose(exact.values[t, s], p[here] @ later[here] / p[here].sum(), rtol=1e-12)
        for a in range(2):
            taken = here & np.asarray(paths.actions[:, t] == a)
            if taken.any():
                mean = p[taken] @ later[taken] / p[taken].sum()
                np.testing.assert_allclose(exact.action_values[t, s, a], mean, rtol=1e-12)


def test_for_ever_is_the_limit_of_long_episodes(x64: None):
    endless = random_problem(jax.random.key(2), discount=0.8)
    probabilities = action_probabilities(endless, policy_for(endless))
    exact = solve(endless, probabilities)
    long = solve(replace(endless, horizon=200), probabilities)
    np.testing.assert_allclose(exact.value, long.value, rtol=1e-12)
    np.testing.assert_allclose(exact.values[0], long.values[0], rtol=1e-12)
    np.testing.assert_allclose(exact.action_values[0], long.action_values[0], rtol=1e-12)
    np.testing.assert_allclose(exact.visits[0], long.visits.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(exact.visits.sum(), endless.steps, rtol=1e-12)
    np.testing.assert_allclose(exact.state_distribution.sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize(("name", "mixed"), [*((name, False) for name in PROBLEMS), ("chain", True)])
def test_the_policy_gradient_is_the_derivative_of_the_value(name: str, mixed: bool, x64: None):
    problem = PROBLEMS[name]()
    policy = policy_for(problem, mixed=mixed)
    derivative = eqx.filter_jit(eqx.filter_grad(lambda policy: value(problem, policy)))(policy)
    found = ravel(policy_gradient(problem, policy))
    np.testing.assert_allclose(found, ravel(derivative), atol=1e-10)
    assert np.linalg.norm(found) > 1e-2


@pytest.mark.parametrize("name", EPISODES)
def test_the_policy_gradient_is_the_mean_of_score_times_return(name: str, x64: None):
    problem = PROBLEMS[name]()
    policy = policy_for(problem, mixed=True)
    paths = all_trajectories(problem)
    score = np.asarray(score_table(problem, policy))[paths.states, paths.actions].sum(axis=1)
    weights = np.asarray(paths.probabilities(problem, policy) * paths.returns(problem))
    np.testing.assert_allclose(ravel(policy_gradient(problem, policy)), weights @ score, atol=1e-10)


@pytest.mark.parametrize("name", EPISODES)
def test_the_fisher_matrix_is_the_mean_outer_product_of_the_steps_scores(name: str, x64: None):
    problem = PROBLEMS[name]()
    policy = policy_for(problem, mixed=True)
    paths = all_trajectories(problem)
    scores = np.asarray(score_table(problem, policy))[paths.states, paths.actions]
    p = np.asarray(paths.probabilities(problem, policy))
    expected = np.einsum("n,nti,ntj->ij", p, scores, scores) / problem.horizon
    np.testing.assert_allclose(fisher_matrix(problem, policy), expected, atol=1e-10)
    assert np.linalg.norm(expected) > 1e-2


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_fisher_matrix_is_the_curvature_of_the_mean_kl_and_what_the_library_multiplies(
    name: str, x64: None
):
    problem = PROBLEMS[name]()
    policy, objective = policy_for(problem), Expectation()
    batch = steps_of(problem, policy)
    found = fisher_matrix(problem, policy)
    np.testing.assert_allclose(found, kl_hessian(objective, policy, batch), atol=1e-10)
    np.testing.assert_allclose(found, fisher_products(objective, policy, batch), atol=1e-10)
    assert np.linalg.norm(found) > 1e-2


def test_the_fisher_matrix_of_a_table_is_known_in_closed_form(x64: None):
    problem = random_problem(jax.random.key(3), states=2, actions=3)
    policy = policy_for(problem)
    pi = np.asarray(action_probabilities(problem, policy))
    d = np.asarray(solve(problem, jnp.asarray(pi)).state_distribution)
    expected = np.zeros((6, 6))
    for s in range(2):
        expected[3 * s : 3 * s + 3, 3 * s : 3 * s + 3] = d[s] * (np.diag(pi[s]) - np.outer(pi[s], pi[s]))
    np.testing.assert_allclose(fisher_matrix(problem, policy), expected, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_exact_objective_is_zero_at_the_old_policy_and_falls_along_the_gradient(name: str, x64: None):
    problem = PROBLEMS[name]()
    policy = policy_for(problem)
    loss, gradient = eqx.filter_jit(loss_and_gradient)(Expectation(), policy, steps_of(problem, policy))
    np.testing.assert_allclose(loss, 0.0, atol=1e-12)
    expected = -ravel(policy_gradient(problem, policy)) / problem.steps
    np.testing.assert_allclose(ravel(gradient), expected, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_difference_of_two_returns_is_the_mean_advantage_over_the_new_ones_visits(name: str, x64: None):
    # Kakade & Langford (2002), lemma 6.1.
    problem = PROBLEMS[name]()
    tables = [action_probabilities(problem, policy_for(problem, seed=seed)) for seed in (1, 2)]
    old, new = (solve(problem, table) for table in tables)
    np.testing.assert_allclose(jnp.einsum("sa,tsa->ts", tables[0], old.advantages), 0.0, atol=1e-12)
    gain = jnp.einsum("ts,sa,tsa->", new.visits, tables[1], old.advantages)
    np.testing.assert_allclose(new.value - old.value, gain, rtol=1e-10)
    assert abs(gain) > 1e-3


def test_policy_iteration_ends_at_the_best_of_all_deterministic_policies(x64: None):
    problem = chain(None, 0.9)
    history = policy_iteration(problem, action_probabilities(problem, policy_for(problem)))
    values = [float(exact.value) for exact in history]
    assert values == sorted(values)
    all_of_them = [solve(problem, jnp.eye(2)[jnp.array(c)]).value for c in product(range(2), repeat=3)]
    np.testing.assert_allclose(values[-1], max(all_of_them), rtol=1e-12)
    assert values[-1] > values[0] + 0.1


def test_policy_iteration_in_an_episode_ends_where_dynamic_programming_does(x64: None):
    problem = chain(5, 0.9)
    history = policy_iteration(problem, action_probabilities(problem, policy_for(problem)))
    v = np.zeros(3)
    for _ in range(5):
        q = np.asarray(problem.mdp.rewards) + 0.9 * np.asarray(problem.mdp.transitions) @ v
        v = q.max(axis=-1)
    np.testing.assert_allclose(history[-1].values[0], v, rtol=1e-12)
    choice = np.asarray(greedy(history[-1])).argmax(axis=-1)[:, 0]
    assert choice.tolist() == [1, 1, 1, 0, 0], "the far reward early on, the near one when time is short"


def test_the_best_of_two_states_by_hand(x64: None):
    # Stay in the second for ever, 2 / (1 − 0.9); from the first, cross to it: 0.9 times that.
    problem = two_states()
    best = policy_iteration(problem, jnp.full((2, 2), 0.5))[-1]
    np.testing.assert_allclose(best.values[0], [18.0, 20.0], rtol=1e-12)
    np.testing.assert_allclose(best.value, 0.8 * 18 + 0.2 * 20, rtol=1e-12)


def test_the_environment_earns_what_is_computed():
    env = TabularMDP(states=4, actions=3, horizon=4)
    problem = random_problem(jax.random.key(0), horizon=4, discount=1.0)
    policy = policy_for(problem)

    def episode(key: jax.Array) -> jax.Array:
        def step(state: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            action_key, step_key = jax.random.split(key)
            observation = jax.nn.one_hot(state, 4)
            action = policy(observation).sample(action_key).astype(jnp.int32)
            found = env.step(step_key, state, action, problem.mdp)
            return found.state, found.reward

        start, _ = env.reset(key, problem.mdp)
        return jnp.sum(jax.lax.scan(step, start, jax.random.split(key, 4))[1])

    returns = np.asarray(jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(1), 4000)))
    error = returns.std() / np.sqrt(len(returns))
    assert abs(returns.mean() - float(value(problem, policy))) < 4 * error


def test_a_table_in_other_coordinates_is_the_same_policy(x64: None):
    problem = chain()
    policy, mixed = policy_for(problem), policy_for(problem, mixed=True)
    np.testing.assert_allclose(mixed.logits, policy.logits, atol=1e-12)
    assert not np.allclose(mixed.table, policy.table, atol=0.1)
    assert len(jax.tree.leaves(mixed)) == 1, "the matrix is no parameter"


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: chain(None, 1.0), "discount is 1.0; it must be at least 0 and below 1"),
        (lambda: chain(3, 1.5), "discount is 1.5; it must be from 0 to 1"),
        (lambda: chain(0), "horizon is 0; it must be 1 or more"),
        (lambda: all_trajectories(chain(None)), "horizon is None; it must be finite"),
        (lambda: all_trajectories(chain(9)), "horizon is 9; it must be small: 10077696 trajectories"),
    ],
)
def test_what_cannot_be_computed_is_refused(build: Any, says: str):
    with pytest.raises(UserError, match=says):
        build()
