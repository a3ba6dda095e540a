from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from support.dense import flatten, ravel, value_and_central_difference
from support.samples import categorical_policy, gaussian_policy
from surefoot.theory.distributions import Categorical
from surefoot.theory.policy_gradient import optimal_baseline, policy_gradient, score

score_of = eqx.filter_jit(score)
OBSERVATIONS = jnp.array([[0.1, 0.2], [0.3, -0.4], [1.0, 2.0]])
ALL = jnp.ones(3, bool)


class Table(eqx.Module):
    """One row of logits for each state; observations are one-hot."""

    logits: Array
    name: str = eqx.field(static=True, default="table")
    count: Array = eqx.field(default_factory=lambda: jnp.array(3, jnp.int32))

    def __call__(self, observations: Array) -> Categorical:
        return Categorical(observations @ self.logits)


def test_the_score_of_a_softmax_is_the_action_less_its_probability():
    policy = Table(jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]])))
    observations = jnp.eye(2)[jnp.array([0, 0, 1])]
    s = score(policy, observations, jnp.array([0, 1, 1]), ALL)
    np.testing.assert_allclose(s.logits, [[0.75 - 0.25, -0.75 + 0.25], [-0.5, 0.5]], atol=1e-6)


def test_a_score_is_shaped_like_the_parameters_and_holds_nothing_else():
    s = score(Table(jnp.zeros((2, 2))), jnp.eye(2), jnp.array([0, 1]), jnp.ones(2, bool))
    assert s.count is None
    assert jax.tree.structure(s) == jax.tree.structure(eqx.filter(Table(s.logits), eqx.is_inexact_array))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("discrete", [True, False])
def test_the_score_is_the_slope_of_the_log_likelihood(discrete: bool):
    policy = categorical_policy() if discrete else gaussian_policy()
    actions = jnp.array([0, 2, 1]) if discrete else jnp.array([[0.1, -1.0], [2.0, 0.5], [0.0, 0.3]])
    observations = OBSERVATIONS.astype(float)
    vector, build = flatten(policy)
    _, expected = value_and_central_difference(
        lambda v: build(v)(observations).log_prob(actions).sum(), vector
    )
    np.testing.assert_allclose(ravel(score_of(policy, observations, actions, ALL)), expected, atol=1e-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("discrete", [True, False])
def test_the_mean_of_the_score_over_the_actions_at_a_state_is_zero(discrete: bool):
    """A sum over all actions, and for a Gaussian a Gauss–Hermite rule, exact here: a score has degree 2 in
    the action."""
    policy = categorical_policy() if discrete else gaussian_policy(actions=1)
    state = OBSERVATIONS[:1].astype(float)
    now = policy(state)
    if isinstance(now, Categorical):
        actions, chances = jnp.arange(3), np.asarray(jax.nn.softmax(now.logits[0]))
    else:
        nodes, weights = np.polynomial.hermite_e.hermegauss(2)
        actions, chances = now.mean + jnp.exp(now.log_std) * nodes[:, None], weights / weights.sum()
    each = jax.vmap(lambda action: ravel(score(policy, state, action[None], ALL[:1])))
    scores = np.asarray(jax.jit(each)(actions))
    np.testing.assert_allclose(chances @ scores, np.zeros(scores.shape[1]), atol=1e-14)
    # So anything that does not depend on the action may be multiplied, and nothing that does.
    assert np.abs(chances * np.arange(len(chances)) @ scores).max() > 0.1


@pytest.mark.parametrize("padding", [jnp.nan, 1e30])
def test_padding_may_hold_anything(padding: float):
    policy, actions = gaussian_policy(), jnp.array([[0.1, -1.0], [2.0, 0.5], [0.0, 0.3]])
    valid = jnp.array([True, True, False])
    padded = score_of(policy, OBSERVATIONS.at[2].set(padding), actions.at[2].set(padding), valid)
    alone = score_of(policy, OBSERVATIONS[:2], actions[:2], ALL[:2])
    np.testing.assert_allclose(ravel(padded), ravel(alone), rtol=1e-5)


def test_a_trajectory_without_a_valid_step_has_no_score():
    s = score_of(gaussian_policy(), OBSERVATIONS, jnp.zeros((3, 2)), ~ALL)
    np.testing.assert_array_equal(ravel(s), jnp.zeros_like(ravel(s)))


def test_the_optimal_baseline_by_hand():
    scores = {"w": jnp.array([[1.0, 0.0], [2.0, 0.0], [1.0, 3.0]]), "b": jnp.array([0.0, 1.0, -1.0])}
    b = optimal_baseline(scores, jnp.array([6.0, 3.0, 12.0]))
    np.testing.assert_array_equal(b["w"], [(6 + 4 * 3 + 12) / 6, 12.0])
    np.testing.assert_array_equal(b["b"], (3 + 12) / 2)


def test_the_optimal_baseline_is_zero_where_no_trajectory_has_a_score():
    scores = jnp.array([[0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(optimal_baseline(scores, jnp.array([6.0, 4.0])), [0.0, 5.0])


def test_leaving_one_out_by_hand():
    scores = jnp.array([1.0, 2.0, 1.0])
    b = optimal_baseline(scores, jnp.array([8.0, 3.0, 13.0]), leave_one_out=True)
    np.testing.assert_array_equal(b, [(4 * 3 + 13) / 5, (8 + 13) / 2, (8 + 4 * 3) / 5])


@pytest.mark.parametrize("returns", [[6.0, 3.0, 12.0], [0.1, 0.7, 1e8]])
def test_leaving_one_out_is_the_formula_on_the_others(returns: list[float]):
    scores = {"w": jax.random.normal(jax.random.key(0), (3, 2, 4))}
    b = optimal_baseline(scores, jnp.array(returns), leave_one_out=True)["w"]
    assert b.shape == (3, 2, 4)
    for i, others in enumerate(([1, 2], [0, 2], [0, 1])):
        rest = optimal_baseline(scores["w"][jnp.array(others)], jnp.array(returns)[jnp.array(others)])
        np.testing.assert_allclose(b[i], rest, rtol=1e-6)


def test_the_only_trajectory_with_a_score_leaves_no_others():
    scores = jnp.array([0.1, 0.0, 0.0])
    b = optimal_baseline(scores, jnp.array([6.0, 3.0, 12.0]), leave_one_out=True)
    np.testing.assert_array_equal(b, [0.0, *optimal_baseline(scores, jnp.full(3, 6.0))[None].repeat(2)])
    np.testing.assert_array_equal(optimal_baseline(scores[:1], jnp.ones(1), leave_one_out=True), [0.0])


def test_the_optimal_baseline_minimises_each_parameters_second_moment():
    """And so the variance, since the mean does not depend on it; by the slope in the baseline."""
    scores, returns = jax.random.normal(jax.random.key(0), (20, 3)), jnp.linspace(-3.0, 9.0, 20)

    def second_moment(b: Array) -> Array:
        return jnp.mean((scores * (returns[:, None] - b)) ** 2)

    best = optimal_baseline(scores, returns)
    np.testing.assert_allclose(jax.grad(second_moment)(best), jnp.zeros(3), atol=1e-5)
    for move in (0.1, -0.1):
        assert second_moment(best + move) > second_moment(best)


def test_the_gradient_by_hand():
    scores = {"w": jnp.array([[1.0, 2.0], [3.0, -4.0]]), "b": jnp.array([1.0, 1.0])}
    returns = jnp.array([10.0, 2.0])
    plain = policy_gradient(scores, returns)
    np.testing.assert_array_equal(plain["w"], [(10 + 6) / 2, (20 - 8) / 2])
    np.testing.assert_array_equal(plain["b"], 6.0)
    less = policy_gradient(scores, returns, 1.0)
    np.testing.assert_array_equal(less["w"], [(9 + 3) / 2, (18 - 4) / 2])
    each = policy_gradient(scores, returns, {"w": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)})
    np.testing.assert_array_equal(each["w"], [(9 + 3) / 2, (16 - 0) / 2])
    np.testing.assert_array_equal(each["b"], (7 - 1) / 2)


@pytest.mark.parametrize("baseline", [2.0, np.float32(2.0), jnp.array(2.0)])
def test_one_number_serves_all_parameters(baseline: Any):
    scores = {"w": jnp.array([[1.0, 2.0], [3.0, -4.0]]), "b": jnp.array([1.0, 1.0])}
    returns = jnp.array([10.0, 2.0])
    g = policy_gradient(scores, returns, baseline)
    np.testing.assert_array_equal(g["w"], [8 / 2, 16 / 2])
    np.testing.assert_array_equal(g["b"], 8 / 2)


def test_a_baseline_may_differ_between_trajectories():
    scores, returns = jnp.array([[1.0, 2.0], [3.0, -4.0]]), jnp.array([10.0, 2.0])
    g = policy_gradient(scores, returns, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(g, [(9 - 3) / 2, (16 + 8) / 2])


def test_a_policy_that_is_a_single_vector_has_a_vector_for_its_baseline():
    scores, returns = jnp.array([[1.0, 2.0], [3.0, -4.0]]), jnp.array([10.0, 2.0])
    np.testing.assert_array_equal(policy_gradient(scores, returns, jnp.array([0.0, 1.0])), [8.0, 7.0])


def test_a_vector_is_no_baseline_for_several_arrays():
    with pytest.raises(ValueError):
        policy_gradient({"w": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}, jnp.ones(2), jnp.ones(2))


# A bandit of two arms, pulled twice a trajectory: everything can be enumerated.
LOGITS = jnp.array([[0.3, -0.5], [0.1, 0.2]])
PAIRS = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
RETURNS = jnp.array([1.0, -2.0, 4.0, 7.0])


def enumerated() -> tuple[Any, Array, Array]:
    """All trajectories' scores, their probabilities, and the exact gradient."""
    policy, states = Table(LOGITS.astype(float)), jnp.eye(2)
    scores = jax.vmap(lambda a: score(policy, states, a, jnp.ones(2, bool)).logits)(PAIRS)

    def chances(logits: Array) -> Array:
        p = jax.nn.softmax(logits)
        return p[0, PAIRS[:, 0]] * p[1, PAIRS[:, 1]]

    exact = jax.grad(lambda logits: chances(logits) @ RETURNS.astype(float))(policy.logits)
    return scores, chances(policy.logits), exact


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("baseline", [0.0, -3.0])
def test_the_gradient_is_unbiased_under_any_constant_baseline(baseline: float):
    scores, chances, exact = enumerated()
    weighted = jax.tree.map(lambda s: 4 * chances[:, None, None] * s, scores)
    g = policy_gradient(weighted, RETURNS.astype(float), baseline)
    np.testing.assert_allclose(g, exact, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_fitted_baseline_is_biased_and_leaving_one_out_is_not():
    """The expectation over every possible batch of three trajectories."""
    scores, chances, exact = enumerated()
    draws = jnp.stack(jnp.meshgrid(*[jnp.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chance = jnp.prod(chances[draws], axis=1)

    def expected(leave_one_out: bool) -> Array:
        def estimate(draw: Array) -> Array:
            s, returns = scores[draw], RETURNS.astype(float)[draw]
            return policy_gradient(s, returns, optimal_baseline(s, returns, leave_one_out=leave_one_out))

        return jnp.tensordot(chance, jax.jit(jax.vmap(estimate))(draws), 1)

    np.testing.assert_allclose(expected(leave_one_out=True), exact, atol=1e-12)
    assert jnp.max(jnp.abs(expected(leave_one_out=False) - exact)) > 0.05
