import jax
import jax.numpy as jnp
import numpy as np

from surefoot.theory.advantages import gae, td_residuals
from surefoot.theory.returns import reward_to_go
from surefoot.theory.values import lambda_returns, proximal_term, td_targets, value_change, value_loss


def test_the_value_loss_by_hand():
    values, targets = jnp.array([1.0, 2.0, jnp.nan, 4.0]), jnp.array([0.0, 4.0, 0.0, 4.0])
    valid = jnp.array([True, True, False, True])
    np.testing.assert_allclose(value_loss(values, targets, valid), 0.5 * (1 + 4 + 0) / 3, rtol=1e-6)


def test_the_value_loss_is_least_at_the_mean_of_the_targets():
    targets, valid = jnp.array([1.0, 2.0, 6.0]), jnp.ones(3, bool)
    slope = jax.grad(lambda v: value_loss(jnp.full(3, v), targets, valid))
    np.testing.assert_allclose(slope(3.0), 0.0, atol=1e-6)
    assert slope(2.9) < 0 < slope(3.1)


def test_targets_are_a_reward_and_what_is_known_of_the_rest():
    rewards, discounts = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.5, 0.0])
    np.testing.assert_allclose(td_targets(rewards, discounts, jnp.array([4.0, 8.0, 1e6])), [3.0, 6.0, 3.0])


def test_what_a_target_differs_by_from_the_value_is_the_residual():
    rewards, discounts, values, following = jax.random.normal(jax.random.key(0), (4, 5))
    residuals = td_residuals(rewards, discounts, values, following)
    np.testing.assert_allclose(td_targets(rewards, discounts, following) - values, residuals, rtol=1e-6)


def test_exact_rounds_approach_the_values_by_the_discount():
    """On a ring of four states, in which each leads to the next."""
    rewards, discount = jnp.array([1.0, 0.0, -2.0, 5.0]), 0.9
    shift = jnp.roll(jnp.eye(4), 1, axis=1)
    exact = jnp.linalg.solve(jnp.eye(4) - discount * shift, rewards)
    values, error = jnp.zeros(4), float(jnp.abs(exact).max())
    for _ in range(20):
        values = td_targets(rewards, jnp.full(4, discount), shift @ values)
        following = float(jnp.abs(values - exact).max())
        assert following <= discount * error + 1e-4
        error = following


def test_the_proximal_term_is_the_squared_distance_of_all_parameters():
    new, old = (
        {"w": jnp.ones((2, 3)), "b": jnp.array([2.0])},
        {"w": jnp.zeros((2, 3)), "b": jnp.array([-1.0])},
    )
    assert proximal_term(new, old) == 6 + 9
    assert proximal_term(new, new) == 0


def test_lambda_returns_lie_between_one_reward_and_the_return(x64: None):
    rewards, values, following = jax.random.normal(jax.random.key(0), (3, 5))
    discounts = jnp.array([0.9, 0.9, 0.0, 0.9, 0.9])
    ones = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        lambda_returns(rewards, discounts, following, 0 * ones), td_targets(rewards, discounts, following)
    )
    whole = reward_to_go(rewards, discounts, following[-1])
    np.testing.assert_allclose(lambda_returns(rewards, discounts, following, ones), whole, rtol=1e-12)
    # GAE is the λ-return less the value.
    found = lambda_returns(rewards, discounts, following, 0.7 * ones)
    advantages = gae(rewards, discounts, values, jnp.append(values[1:], 2.0), 0.7 * ones)
    of_the_same = lambda_returns(rewards, discounts, jnp.append(values[1:], 2.0), 0.7 * ones)
    np.testing.assert_allclose(of_the_same - values, advantages, rtol=1e-10)
    assert np.abs(found - of_the_same).max() > 0.01


def test_a_lambda_return_is_the_mean_of_all_k_step_returns(x64: None):
    rewards, following = jax.random.normal(jax.random.key(1), (2, 60))
    gamma, decay = 0.9, 0.6
    found = lambda_returns(rewards, jnp.full(60, gamma), following, jnp.full(60, decay).at[-1].set(0.0))
    powers = gamma ** np.arange(60)
    of_k = [powers[:k] @ rewards[:k] + gamma**k * following[k - 1] for k in range(1, 61)]
    expected = sum((1 - decay) * decay ** (k - 1) * x for k, x in enumerate(of_k, start=1))
    np.testing.assert_allclose(found[0], expected, atol=1e-10)


def test_the_change_of_values_by_hand():
    values, old = jnp.array([1.0, 5.0, jnp.nan]), jnp.array([0.0, 2.0, 0.0])
    np.testing.assert_allclose(value_change(values, old, jnp.array([True, True, False])), 5.0)
