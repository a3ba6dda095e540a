import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.theory import returns as theory

discounted_return, reward_to_go = jax.jit(theory.discounted_return), jax.jit(theory.reward_to_go)


def test_reward_to_go_by_hand():
    returns = reward_to_go(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.5, 0.0]))
    np.testing.assert_array_equal(returns, [1 + 0.5 * (2 + 0.5 * 3), 2 + 0.5 * 3, 3])


def test_each_step_has_its_own_discount():
    returns = reward_to_go(jnp.array([1.0, 1.0, 1.0, 1.0]), jnp.array([0.5, 0.0, 0.25, 1.0]))
    np.testing.assert_array_equal(returns, [1.5, 1.0, 1.25, 1.0])


def test_final_value_is_discounted_like_any_reward():
    returns = reward_to_go(jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5]), 8.0)
    np.testing.assert_array_equal(returns, [1 + 0.5 * (2 + 0.5 * 8), 2 + 0.5 * 8])


def test_a_zero_discount_at_the_end_ignores_the_final_value():
    returns = reward_to_go(jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0]), 8.0)
    np.testing.assert_array_equal(returns, [2.0, 2.0])


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_discounted_return_is_the_weighted_sum(discount: float):
    rewards = [1.0, -2.0, 4.0]
    expected = sum(discount**t * r for t, r in enumerate(rewards))
    assert discounted_return(jnp.array(rewards), jnp.full(3, discount)) == expected
