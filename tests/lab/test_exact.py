"""Each exact quantity, found in two ways that share nothing."""

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import fisher_matrix as fisher_products, kl_hessian
from surefoot.envs import TabularMDP
from surefoot.lab.exact import (
    OBJECTIVE,
    all_trajectories,
    exact_batch,
    fisher_matrix,
    greedy,
    policy_gradient,
    policy_iteration,
    solve,
    step_scores,
)
from surefoot.lab.problems import (
    Problem,
    SoftmaxTable,
    chain,
    chain_policy,
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
CASES = [("chain", False), *((name, name in EPISODES) for name in PROBLEMS)]
"""Problems, and whether the policy is in other coordinates."""


def policy_for(problem: Problem, *, mixed: bool = False, seed: int = 1) -> SoftmaxTable:
    policy = random_policy(jax.random.key(seed), problem)
    if not mixed:
        return policy
    size = problem.states * problem.actions
    return reparametrised(policy, np.random.default_rng(seed).normal(size=(size, size)))


@cache
def computed(name: str, mixed: bool) -> Any:
    """Everything that the tests compare, of one problem, in one program."""

    @jax.jit
    def compute(policy: SoftmaxTable, other: SoftmaxTable) -> dict[str, Any]:
        batch = exact_batch(problem, policy)
        loss, slope = loss_and_gradient(OBJECTIVE, policy, batch)
        return {
            "old": solve(problem, policy.probabilities),
            "new": solve(problem, other.probabilities),
            "gradient": policy_gradient(problem, policy),
            "derivative": jax.grad(lambda x: solve(problem, x.probabilities).value)(policy).table,
            "fisher": fisher_matrix(problem, policy),
            "kl hessian": kl_hessian(OBJECTIVE, policy, batch),
            "fisher products": fisher_products(OBJECTIVE, policy, batch),
            "loss": loss,
            "slope": slope.table,
            "tables": (policy.probabilities, other.probabilities),
        }

    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        return compute(*(policy_for(problem, mixed=mixed, seed=seed) for seed in (1, 2)))


@cache
def listed(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The probability, the return and the scores of the steps of each trajectory."""
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        policy = policy_for(problem, mixed=True)
        episodes, chances = all_trajectories(problem, policy)
        returns = episodes.rewards @ problem.discount_powers
        return np.asarray(chances), np.asarray(returns), np.asarray(step_scores(policy, episodes))


@pytest.mark.parametrize("name", EPISODES)
def test_exact_values_gradients_and_fisher_matrices_are_means_over_all_trajectories(name: str):
    exact = computed(name, mixed=True)
    chances, returns, scores = listed(name)
    np.testing.assert_allclose(chances.sum(), 1.0, atol=1e-12)
    np.testing.assert_allclose(exact["old"].value, chances @ returns, rtol=1e-12)
    gradient = (chances * returns) @ scores.sum(axis=1)
    np.testing.assert_allclose(exact["gradient"], gradient, atol=1e-10)
    expected = np.einsum("n,nti,ntj->ij", chances, scores, scores) / scores.shape[1]
    np.testing.assert_allclose(exact["fisher"], expected, atol=1e-10)
    assert np.linalg.norm(expected) > 1e-2


def test_values_action_values_and_occupancy_are_conditional_means(x64: None):
    problem = chain(3, 0.9)
    policy = policy_for(problem)
    exact = solve(problem, policy.probabilities)
    episodes, p = (jax.tree.map(np.asarray, x) for x in all_trajectories(problem, policy))
    for t, s in product(range(3), range(3)):
        here = episodes.states[:, t] == s
        np.testing.assert_allclose(exact.occupancy[t, s], p[here].sum(), atol=1e-12)
        later = episodes.rewards[:, t:] @ 0.9 ** np.arange(3 - t)
        if here.any():
            np.testing.assert_allclose(exact.values[t, s], p[here] @ later[here] / p[here].sum(), rtol=1e-12)
        for a in range(2):
            taken = here & (episodes.actions[:, t] == a)
            if taken.any():
                mean = p[taken] @ later[taken] / p[taken].sum()
                np.testing.assert_allclose(exact.action_values[t, s, a], mean, rtol=1e-12)


def test_for_ever_is_the_limit_of_long_episodes(x64: None):
    endless = random_problem(jax.random.key(2), discount=0.8)
    probabilities = policy_for(endless).probabilities
    exact = solve(endless, probabilities)
    long = solve(replace(endless, horizon=200), probabilities)
    np.testing.assert_allclose(exact.value, long.value, rtol=1e-12)
    np.testing.assert_allclose(exact.values[0], long.values[0], rtol=1e-12)
    np.testing.assert_allclose(exact.action_values[0], long.action_values[0], rtol=1e-12)
    np.testing.assert_allclose(exact.visits[0], long.visits.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(exact.visits.sum(), endless.steps, rtol=1e-12)
    np.testing.assert_allclose(exact.state_distribution.sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize(("name", "mixed"), CASES)
def test_gradients_and_curvatures_are_the_derivatives(name: str, mixed: bool, x64: None):
    exact, steps = computed(name, mixed), PROBLEMS[name]().steps
    np.testing.assert_allclose(exact["gradient"], exact["derivative"].reshape(-1), atol=1e-10)
    assert np.linalg.norm(exact["gradient"]) > 1e-2
    # The Fisher matrix is the curvature of the mean KL, and what the library multiplies by.
    np.testing.assert_allclose(exact["fisher"], exact["kl hessian"], atol=1e-10)
    np.testing.assert_allclose(exact["fisher"], exact["fisher products"], atol=1e-10)
    assert np.linalg.norm(exact["fisher"]) > 1e-2
    # The objective is zero at the old policy and falls along the gradient.
    np.testing.assert_allclose(exact["loss"], 0.0, atol=1e-12)
    np.testing.assert_allclose(exact["slope"].reshape(-1), -exact["gradient"] / steps, atol=1e-12)


def test_the_fisher_matrix_of_a_table_is_known_in_closed_form(x64: None):
    problem = random_problem(jax.random.key(3), states=2, actions=3)
    policy = policy_for(problem)
    pi = np.asarray(policy.probabilities)
    d = np.asarray(solve(problem, jnp.asarray(pi)).state_distribution)
    expected = np.zeros((6, 6))
    for s in range(2):
        expected[3 * s : 3 * s + 3, 3 * s : 3 * s + 3] = d[s] * (np.diag(pi[s]) - np.outer(pi[s], pi[s]))
    np.testing.assert_allclose(fisher_matrix(problem, policy), expected, atol=1e-12)


@pytest.mark.parametrize(("name", "mixed"), CASES)
def test_the_difference_of_two_returns_is_the_mean_advantage_over_the_new_ones_visits(
    name: str, mixed: bool, x64: None
):
    # Kakade & Langford (2002), lemma 6.1.
    exact = computed(name, mixed)
    old, new, (pi_old, pi_new) = exact["old"], exact["new"], exact["tables"]
    np.testing.assert_allclose(np.einsum("sa,tsa->ts", pi_old, old.advantages), 0.0, atol=1e-12)
    gain = np.einsum("ts,sa,tsa->", new.visits, pi_new, old.advantages)
    np.testing.assert_allclose(new.value - old.value, gain, rtol=1e-10)
    assert abs(gain) > 1e-3


def test_policy_iteration_ends_at_the_best_of_all_deterministic_policies(x64: None):
    problem = chain(None, 0.9)
    history = policy_iteration(problem, policy_for(problem).probabilities)
    values = [float(exact.value) for exact in history]
    assert values == sorted(values)
    all_of_them = [solve(problem, jnp.eye(2)[jnp.array(c)]).value for c in product(range(2), repeat=3)]
    np.testing.assert_allclose(values[-1], max(all_of_them), rtol=1e-12)
    assert values[-1] > values[0] + 0.1


def test_policy_iteration_in_an_episode_ends_where_dynamic_programming_does(x64: None):
    problem = chain(5, 0.9)
    history = policy_iteration(problem, policy_for(problem).probabilities)
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
    assert abs(returns.mean() - float(solve(problem, policy.probabilities).value)) < 4 * error


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
        (lambda: all_trajectories(chain(None), chain_policy()), "horizon is None; it must be finite"),
        (
            lambda: all_trajectories(chain(9), chain_policy()),
            "horizon is 9; it must be small: 10077696 trajectories",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(build: Any, says: str):
    with pytest.raises(UserError, match=says):
        build()
