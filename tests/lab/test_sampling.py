from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab.exact import solve, step_scores
from surefoot.lab.problems import SoftmaxTable, chain, random_policy
from surefoot.lab.sampling import (
    CONFIDENCE,
    draw,
    in_batches,
    quality,
)
from surefoot.theory.policy_gradient import score
from surefoot.theory.returns import discounted_return

pytestmark = pytest.mark.usefixtures("x64")
KEY, EPISODES = 0, 20_000


def test_states_and_actions_are_as_frequent_as_the_exact_ones():
    problem = chain(4)
    policy = random_policy(jax.random.key(1), problem)
    episodes = draw(problem, policy, jax.random.key(KEY), (EPISODES,))
    pi = policy.probabilities
    joint = solve(problem, pi).occupancy[..., None] * pi
    for t in range(4):
        counts = np.zeros((3, 2))
        np.add.at(counts, (np.asarray(episodes.states[:, t]), np.asarray(episodes.actions[:, t])), 1)
        spread = np.sqrt(joint[t] * (1 - joint[t]) / EPISODES)
        np.testing.assert_array_less(np.abs(counts / EPISODES - joint[t]), 4 * spread + 1e-9)


def test_episodes_move_as_the_problem_does_and_earn_its_rewards():
    problem = chain(5)
    episodes = draw(problem, random_policy(jax.random.key(1), problem), jax.random.key(KEY), (30, 40))
    assert episodes.states.shape == episodes.actions.shape == episodes.rewards.shape == (30, 40, 5)
    moves = problem.mdp.transitions[
        episodes.states[..., :-1], episodes.actions[..., :-1], episodes.states[..., 1:]
    ]
    assert (moves > 0).all()
    np.testing.assert_array_equal(episodes.rewards, problem.mdp.rewards[episodes.states, episodes.actions])


def test_their_mean_return_is_the_value():
    problem = chain(4, discount=0.5)
    policy = SoftmaxTable(jnp.zeros((3, 2)))
    episodes = draw(problem, policy, jax.random.key(KEY), (EPISODES,), noise=0.5)
    returns = np.asarray(jax.vmap(discounted_return, (0, None))(episodes.rewards, problem.discounts))
    assert abs(returns.mean() - solve(problem, policy.probabilities).value) < 4 * returns.std() / np.sqrt(
        EPISODES
    )


def test_noise_is_normal_with_the_deviation_asked_for():
    problem, policy = chain(4), SoftmaxTable(jnp.zeros((3, 2)))
    episodes = draw(problem, policy, jax.random.key(KEY), (EPISODES,), noise=0.5)
    noise = episodes.rewards - problem.mdp.rewards[episodes.states, episodes.actions]
    assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(4 * EPISODES)
    np.testing.assert_allclose(noise.std(axis=0), 0.5, rtol=4 / np.sqrt(2 * EPISODES))


def test_step_scores_sum_to_the_score_of_the_trajectory():
    problem = chain(4)
    policy = random_policy(jax.random.key(1), problem)
    episodes = draw(problem, policy, jax.random.key(KEY), (5,))
    steps = step_scores(policy, episodes)
    for i in range(5):
        observations = problem.observations[episodes.states[i]]
        whole = score(policy, observations, episodes.actions[i], jnp.ones(4, bool))
        np.testing.assert_allclose(steps[i].sum(axis=0), whole.table.reshape(-1), atol=1e-12)


def test_discounts():
    problem = chain(4, discount=0.5)
    np.testing.assert_array_equal(problem.discounts, [0.5, 0.5, 0.5, 0.0])
    np.testing.assert_array_equal(replace(problem, discount=0.25).discounts, [0.25, 0.25, 0.25, 0.0])
    np.testing.assert_array_equal(problem.discount_powers, [1.0, 0.5, 0.25, 0.125])


def test_quality_by_hand():
    estimates = jnp.array([[1.0, 0.0], [3.0, 0.0], [1.0, 4.0], [3.0, 4.0]])
    q = quality(estimates, jnp.array([2.0, 0.5]), 10)
    # Covariance diag(4/3, 16/3), over four estimates; the mean is (2, 2).
    assert q.bias == 1.5
    np.testing.assert_allclose(q.standard_error, np.sqrt(20 / 3 / 4))
    np.testing.assert_allclose(q.variance, 10 * 20 / 3)
    # χ² = 1.5² / (4/3) with two degrees of freedom, whose tail is exp(−χ²/2).
    np.testing.assert_allclose(q.p_value, np.exp(-(1.5**2) / (4 / 3) / 2))


@pytest.mark.parametrize(("shift", "unbiased"), [(0.0, True), (0.1, False)])
def test_a_planted_bias_is_found_also_where_some_directions_do_not_vary(shift: float, unbiased: bool):
    noise = jax.random.normal(jax.random.key(2), (4000, 2))
    estimates = jnp.concatenate([noise, -noise.sum(axis=1, keepdims=True)], axis=1)
    truth = jnp.array([shift, 0.0, -shift])
    q = quality(estimates, truth, 1)
    assert q.unbiased is unbiased
    assert (q.p_value > CONFIDENCE) is unbiased


def test_p_values_of_an_unbiased_estimator_are_uniform():
    noise = jax.random.normal(jax.random.key(3), (300, 200, 3))
    p = [quality(sample, jnp.zeros(3), 1).p_value for sample in noise]
    assert abs(np.mean(p) - 0.5) < 4 * np.sqrt(1 / 12 / 300)
    assert abs(np.mean(np.array(p) < 0.1) - 0.1) < 4 * np.sqrt(0.09 / 300)


def test_batches_are_treated_one_by_one():
    data = jnp.arange(21.0).reshape(7, 3)
    found = in_batches(lambda x: (x.sum(), x.max()), data, at_once=2)
    np.testing.assert_array_equal(found[0], data.sum(axis=1))
    np.testing.assert_array_equal(found[1], data.max(axis=1))
