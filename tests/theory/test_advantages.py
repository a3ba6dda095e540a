import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.theory import advantages as theory
from surefoot.theory.returns import reward_to_go

REWARDS = jnp.array([1.0, 2.0, 3.0])
VALUES = jnp.array([4.0, 2.0, 1.0])
explained_variance, gae, normalise, td_residuals = (
    jax.jit(f) for f in (theory.explained_variance, theory.gae, theory.normalise, theory.td_residuals)
)


def test_td_residuals_by_hand():
    residuals = td_residuals(REWARDS, jnp.array([0.5, 0.5, 0.0]), VALUES, jnp.array([2.0, 1.0, 99.0]))
    np.testing.assert_array_equal(residuals, [1 + 1 - 4, 2 + 0.5 - 2, 3 - 1])


def test_gae_by_hand():
    advantages = gae(
        REWARDS, jnp.array([0.5, 0.5, 0.0]), VALUES, jnp.array([2.0, 1.0, 0.0]), jnp.full(3, 0.5)
    )
    # Residuals −2, 0.5, 2; each step adds a quarter of what follows.
    np.testing.assert_array_equal(advantages, [-2 + 0.25 * (0.5 + 0.25 * 2), 0.5 + 0.25 * 2, 2])


def test_gae_takes_each_steps_own_decay():
    advantages = gae(
        REWARDS, jnp.array([0.5, 0.5, 0.0]), VALUES, jnp.array([2.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 1.0])
    )
    np.testing.assert_array_equal(advantages, [-2 + 0.5 * 0.5, 0.5, 2])


def test_gae_with_no_decay_is_the_td_residual():
    discounts, following = jnp.array([0.9, 0.3, 0.7]), jnp.array([2.0, 1.0, 5.0])
    advantages = gae(REWARDS, discounts, VALUES, following, jnp.zeros(3))
    np.testing.assert_array_equal(advantages, td_residuals(REWARDS, discounts, VALUES, following))


def test_gae_with_full_decay_is_the_return_less_the_value():
    discounts = jnp.array([0.9, 0.3, 0.0])
    advantages = gae(REWARDS, discounts, VALUES, jnp.array([2.0, 1.0, 5.0]), jnp.ones(3))
    np.testing.assert_allclose(advantages, jax.jit(reward_to_go)(REWARDS, discounts) - VALUES, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_a_truncated_trajectory_bootstraps_with_the_value_that_follows(decay: float):
    # One step whose reward is 1, then the limit: V before is 4, V after is 10.
    one = jnp.array([1.0])
    cut = gae(one, jnp.array([0.5]), jnp.array([4.0]), jnp.array([10.0]), jnp.zeros(1))
    np.testing.assert_array_equal(cut, [1 + 0.5 * 10 - 4])
    ended = gae(one, jnp.array([0.0]), jnp.array([4.0]), jnp.array([10.0]), jnp.full(1, decay))
    np.testing.assert_array_equal(ended, [1 - 4])


def test_what_follows_a_truncated_trajectory_in_the_same_row_stays_out_of_it():
    alone = gae(
        jnp.array([1.0, 1.0]),
        jnp.full(2, 0.5),
        jnp.array([1.0, 2.0]),
        jnp.array([2.0, 3.0]),
        jnp.array([1.0, 0]),
    )
    followed = gae(
        jnp.array([1.0, 1.0, 50.0]),
        jnp.full(3, 0.5),
        jnp.array([1.0, 2.0, 70.0]),
        jnp.array([2.0, 3.0, 90.0]),
        jnp.array([1.0, 0.0, 1.0]),
    )
    np.testing.assert_array_equal(followed[:2], alone)


def test_normalise_divides_by_the_standard_deviation_of_valid_steps():
    # Mean 3, variance 4: were they divided by the variance, the result would be ±½.
    advantages = jnp.array([[1.0, 5.0], [5.0, 1.0], [jnp.nan, jnp.inf]])
    valid = jnp.array([[True, True], [True, True], [False, False]])
    np.testing.assert_allclose(normalise(advantages, valid), [[-1, 1], [1, -1], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("value", [7.0, 0.1, -7.3, 1e-6, 0.0])
@pytest.mark.parametrize("count", [3, 1000, 160_000])
def test_equal_advantages_become_zero(value: float, count: int):
    """Their mean is not exactly their value in single precision."""
    advantages, valid = jnp.full(count, value), jnp.ones(count, bool)
    np.testing.assert_array_equal(normalise(advantages, valid), jnp.zeros(count))
    assert theory.advantage_scale(advantages, valid) == np.inf, "what is measured in it is zero too"


def test_normalise_removes_the_scale():
    advantages = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    valid = jnp.ones((3, 2), bool)
    np.testing.assert_allclose(normalise(1000 * advantages, valid), normalise(advantages, valid), atol=1e-4)


@pytest.mark.parametrize(
    ("values", "explained"),
    [
        ([1.0, 2.0, 6.0], 1.0),
        ([11.0, 12.0, 16.0], 1.0),  # a constant does not matter
        ([5.0, 5.0, 5.0], 0.0),
        ([0.5, 1.0, 3.0], 0.75),  # half of it is missing, and so a quarter of the variance is left
        ([-1.0, -2.0, -6.0], -3.0),
    ],
)
def test_explained_variance_by_hand(values: list[float], explained: float):
    returns, valid = jnp.array([1.0, 2.0, 6.0, jnp.nan]), jnp.array([True, True, True, False])
    found = explained_variance(jnp.array([*values, 9.0]), returns, valid)
    np.testing.assert_allclose(found, explained, atol=1e-6)


@pytest.mark.parametrize("value", [7.0, 0.1, 7.3])
def test_nothing_is_explained_where_returns_do_not_vary(value: float):
    values = 1e-3 * jnp.arange(1000.0)
    assert explained_variance(values, jnp.full(1000, value), jnp.ones(1000, bool)) == 0
