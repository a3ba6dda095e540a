import jax
import jax.numpy as jnp
import numpy as np

from surefoot.theory.advantages import td_residuals
from surefoot.theory.values import proximal_term, td_targets, value_loss


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
