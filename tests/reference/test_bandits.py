"""Agents for Bernoulli bandits, against brute force, published indices and exact expectations."""

from functools import cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.envs import Bandit, TabularMDP
from surefoot.envs.probes import EndlessReward
from surefoot.options import UserError
from surefoot.reference import (
    UCB1,
    AbstractAgent,
    BestArm,
    EpsilonGreedyArm,
    GittinsIndex,
    Random,
    ThompsonSampling,
    bayes_optimal_reward,
    gittins_index,
    total_rewards,
)
from surefoot.reference.bandits import Counts

KEY = jax.random.key(0)


def stopping_value(cost: float, s: int, f: int, left: int) -> float:
    """The best expected sum of rewards less `cost` a pull, over all ways to stop: at least one pull, by
    listing every adaptive rule through recursion on the outcomes."""

    def go(s: int, f: int, left: int) -> float:
        if left == 0:
            return 0.0
        p = (s + 1) / (s + f + 2)
        return max(0.0, p - cost + p * go(s + 1, f, left - 1) + (1 - p) * go(s, f + 1, left - 1))

    p = (s + 1) / (s + f + 2)
    return p - cost + p * go(s + 1, f, left - 1) + (1 - p) * go(s, f + 1, left - 1)


@pytest.mark.parametrize(
    ("s", "f", "left"), [(0, 0, 1), (0, 0, 2), (0, 0, 5), (1, 0, 3), (0, 2, 4), (3, 1, 2)]
)
def test_the_finite_index_by_bisection(s: int, f: int, left: int):
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if stopping_value(middle, s, f, left) > 0 else (low, middle)
    np.testing.assert_allclose(gittins_index(8)[left - 1, s, f], low, atol=1e-5)


def test_the_index_by_hand():
    """With one pull left it is the mean; with two, ν = (p + p p₊)/(1 + p) for going on after a success."""
    table = gittins_index(8)
    np.testing.assert_allclose(table[0, 2, 1], 3 / 5, atol=1e-12)
    np.testing.assert_allclose(table[1, 0, 0], (1 / 2 + 1 / 2 * 2 / 3) / (3 / 2), atol=1e-6)
    assert np.isnan(table[7, 1, 0]), "more pulls than there are"
    assert np.all(np.diff(table[:, 0, 0]) > 0), "more pulls left are worth more exploration"


def test_the_discounted_index_is_the_published_one():
    """Of a uniform prior and γ = 0.9 (Gittins et al., 2011, table of Bernoulli arms)."""
    np.testing.assert_allclose(gittins_index(60, 0.9)[-1, 0, 0], 0.7029, atol=5e-4)


@cache
def best_total(state: tuple[tuple[int, int], ...], left: int) -> float:
    """The Bayes-optimal expected total reward of the remaining pulls, by dynamic programming over all."""
    if left == 0:
        return 0.0
    totals = []
    for arm, (s, f) in enumerate(state):
        p = (s + 1) / (s + f + 2)
        won, lost = (list(state) for _ in range(2))
        won[arm], lost[arm] = (s + 1, f), (s, f + 1)
        totals.append(
            p * (1 + best_total(tuple(won), left - 1)) + (1 - p) * best_total(tuple(lost), left - 1)
        )
    return max(totals)


def index_total(state: tuple[tuple[int, int], ...], left: int) -> float:
    """The expected total reward of the agent's choices over its own posterior."""
    if left == 0:
        return 0.0
    counts = Counts(jnp.array([float(s) for s, _ in state]), jnp.array([float(f) for _, f in state]), PULLS)
    arm = int(GittinsIndex().act(KEY, counts, jnp.ones(1), jnp.zeros((), jnp.int32)))
    s, f = state[arm]
    p = (s + 1) / (s + f + 2)
    won, lost = (list(state) for _ in range(2))
    won[arm], lost[arm] = (s + 1, f), (s, f + 1)
    return p * (1 + index_total(tuple(won), left - 1)) + (1 - p) * index_total(tuple(lost), left - 1)


PULLS = 5


def test_the_gittins_agent_is_nearly_bayes_optimal():
    start = ((0, 0), (0, 0))
    best = best_total(start, PULLS)
    assert best - 0.01 < index_total(start, PULLS) <= best + 1e-9
    np.testing.assert_allclose(
        best_total(((0, 0), (0, 0)), 2), 1 / 2 * (1 + 2 / 3) + 1 / 2 * 1 / 2, rtol=1e-12
    )


def test_what_the_indices_are():
    counts = Counts(jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]), 10)
    np.testing.assert_allclose(counts.means, [4 / 6, 1 / 2], rtol=1e-6)
    bound = np.array([4 / 6, 1 / 2]) + 0.5 * np.sqrt(2 * np.log(8) / np.array([6, 2]))
    np.testing.assert_allclose(UCB1(scale=0.5).indices(KEY, counts), bound, rtol=1e-6)
    np.testing.assert_array_equal(EpsilonGreedyArm(0.0).indices(KEY, counts), counts.means)
    keys = jax.random.split(KEY, 4000)
    samples = jax.vmap(lambda k: ThompsonSampling().indices(k, counts))(keys)
    np.testing.assert_allclose(samples.mean(0), counts.means, atol=0.02)
    np.testing.assert_allclose(samples.var(0), [4 * 2 / (36 * 7), 1 / 12], atol=0.01)
    random = jax.vmap(lambda k: jnp.argmax(EpsilonGreedyArm(0.5).indices(k, counts)))(keys)
    assert abs(float(random.mean()) - 0.25) < 0.04, (
        "half of all pulls are random, half of these the second arm"
    )


@pytest.mark.parametrize(
    ("agent", "expected"), [(Random(), 1 / 2), (BestArm(), 3 / 4)], ids=["random", "best arm"]
)
def test_totals_with_known_expectations(agent: AbstractAgent, expected: float):
    """The larger of three uniform means is 3/4 in expectation. Episodes and pulls add up."""
    totals = np.asarray(total_rewards(agent, Bandit(arms=3, horizon=4), KEY, problems=2000, episodes=2))
    error = 4 * totals.std() / np.sqrt(len(totals))
    assert abs(totals.mean() - 8 * expected) < error
    again = total_rewards(agent, Bandit(arms=3, horizon=4), KEY, problems=2000, episodes=2, at_once=700)
    np.testing.assert_array_equal(again, totals)


def test_the_gittins_agent_earns_what_dynamic_programming_says():
    totals = np.asarray(total_rewards(GittinsIndex(), Bandit(arms=2, horizon=PULLS), KEY, problems=1000))
    expected = index_total(((0, 0), (0, 0)), PULLS)
    assert abs(totals.mean() - expected) < 4 * totals.std() / np.sqrt(len(totals))


@pytest.mark.parametrize(
    ("agent", "env"), list(product((GittinsIndex(), BestArm()), (TabularMDP(), Bandit(rewards="gaussian"))))
)
def test_other_environments_are_refused(agent: AbstractAgent, env: Bandit):
    with pytest.raises(UserError, match="Bernoulli bandit"):
        total_rewards(agent, env, KEY, problems=2)


def test_numbers_are_checked():
    with pytest.raises(UserError, match="problems is 0"):
        total_rewards(Random(), Bandit(), KEY, problems=0)
    with pytest.raises(UserError, match="epsilon"):
        EpsilonGreedyArm(2.0)
    endless = EndlessReward()
    object.__setattr__(endless, "horizon", 0)  # as one of a user's own may have it
    with pytest.raises(UserError, match="horizon is 0; it must be 1 or more, for whole episodes"):
        total_rewards(Random(), endless, KEY, problems=2)


def test_the_bayes_optimum_is_that_of_hand_made_problems() -> None:
    assert bayes_optimal_reward(1, 7) == pytest.approx(3.5), "one arm leaves no choice"
    # The first pull earns 1/2; after a success the arm's mean is 2/3, after a failure the other's is 1/2.
    assert bayes_optimal_reward(2, 2) == pytest.approx(0.5 + 0.5 * 2 / 3 + 0.5 * 0.5)
    for pulls in (-1, 600):
        with pytest.raises(UserError, match=f"pulls is {pulls}"):
            bayes_optimal_reward(1, pulls)
    with pytest.raises(UserError, match="pulls is 1000; it must be from 1 to 300"):
        gittins_index(1000)
    with pytest.raises(UserError, match="arms is 0"):
        bayes_optimal_reward(0, 3)


def test_no_agent_earns_more_than_the_bayes_optimum() -> None:
    optimum = bayes_optimal_reward(5, 10)
    for agent, share in ((GittinsIndex(), 0.99), (ThompsonSampling(), 0.8), (Random(), 0.7)):
        totals = np.asarray(total_rewards(agent, Bandit(arms=5, horizon=10), KEY, problems=1000))
        error = totals.std() / np.sqrt(len(totals))
        assert share * optimum < totals.mean() + 3 * error
        assert totals.mean() - 3 * error < optimum
