import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from surefoot.theory import advantages as theory

REWARDS = jnp.array([1.0, 2.0, 3.0, 4.0])
DISCOUNTS = jnp.array([0.5, 0.5, 0.5, 0.0])
VALUES = jnp.array([10.0, 20.0, 40.0, 80.0])
FOLLOWING = jnp.array([20.0, 40.0, 80.0, 99.0])
ONES = jnp.ones(4)
gae, td_residuals = jax.jit(theory.gae), jax.jit(theory.td_residuals)
k_step_advantages = jax.jit(theory.k_step_advantages, static_argnums=5)


def test_two_steps_by_hand():
    advantages = k_step_advantages(REWARDS, DISCOUNTS, VALUES, FOLLOWING, ONES, 2)
    expected = [1 + 0.5 * 2 + 0.25 * 40 - 10, 2 + 0.5 * 3 + 0.25 * 80 - 20, 3 + 0.5 * 4 - 40, 4 - 80]
    np.testing.assert_array_equal(advantages, expected)


def test_three_steps_by_hand():
    advantages = k_step_advantages(REWARDS, DISCOUNTS, VALUES, FOLLOWING, ONES, 3)
    expected = [1 + 0.5 * 2 + 0.25 * 3 + 0.125 * 80 - 10, 2 + 0.5 * 3 + 0.25 * 4 - 20, 3 + 2 - 40, 4 - 80]
    np.testing.assert_array_equal(advantages, expected)


def test_each_step_has_its_own_discount():
    discounts = jnp.array([0.5, 0.25, 0.75, 0.0])
    advantages = k_step_advantages(REWARDS, discounts, VALUES, FOLLOWING, ONES, 3)
    first = 1 + 0.5 * (2 + 0.25 * (3 + 0.75 * 80)) - 10
    assert advantages[0] == first


def test_one_step_is_the_td_residual():
    advantages = k_step_advantages(REWARDS, DISCOUNTS, VALUES, FOLLOWING, ONES, 1)
    np.testing.assert_array_equal(advantages, td_residuals(REWARDS, DISCOUNTS, VALUES, FOLLOWING))


@pytest.mark.parametrize("k", [4, 5, 1000])
def test_as_many_steps_as_there_are_is_gae_without_decay(k: int):
    continues = jnp.array([1.0, 0.0, 1.0, 1.0])
    advantages = k_step_advantages(REWARDS, DISCOUNTS, VALUES, FOLLOWING, continues, k)
    np.testing.assert_array_equal(advantages, gae(REWARDS, DISCOUNTS, VALUES, FOLLOWING, continues))


def test_three_of_four_steps_are_not_yet_all():
    discounts = jnp.full(4, 0.5)
    three, four = (k_step_advantages(REWARDS, discounts, VALUES, FOLLOWING, ONES, k) for k in (3, 4))
    np.testing.assert_array_equal(three != four, [True, False, False, False])


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_trajectory_cut_short_bootstraps_and_nothing_after_belongs_to_it(k: int):
    # Two steps and the limit; what lies in the row behind it is another trajectory.
    continues = jnp.array([1.0, 0.0, 1.0, 0.0])
    discounts = jnp.full(4, 0.5)
    advantages = k_step_advantages(REWARDS, discounts, VALUES, FOLLOWING, continues, k)
    second = 2 + 0.5 * 40 - 20
    first = 1 + 0.5 * 20 - 10 if k == 1 else 1 + 0.5 * 2 + 0.25 * 40 - 10
    np.testing.assert_array_equal(advantages[:2], [first, second])


@pytest.mark.parametrize("k", [1, 3])
def test_masked_padding_stays_zero_and_out_of_the_rest(k: int):
    valid = jnp.array([True, True, False, False])
    rewards, discounts, values, following = (
        jnp.where(valid, x, 0.0) for x in (REWARDS, jnp.full(4, 0.5), VALUES, FOLLOWING)
    )
    padded = k_step_advantages(rewards, discounts, values, following, jnp.array([1.0, 0.0, 0.0, 0.0]), k)
    alone = k_step_advantages(
        REWARDS[:2], jnp.full(2, 0.5), VALUES[:2], FOLLOWING[:2], jnp.array([1.0, 0.0]), k
    )
    np.testing.assert_array_equal(padded, [*alone, 0.0, 0.0])


def test_a_single_step():
    one = jnp.ones(1)
    assert k_step_advantages(one, 0.5 * one, 4 * one, 10 * one, 0 * one, 3) == 1 + 0.5 * 10 - 4


def test_they_are_the_mixture_that_gae_averages():
    # (1 − λ) Σ_k λ^{k−1} A^(k), where the last of the mixture's weights goes to the longest.
    decay, discounts = 0.5, jnp.array([0.9, 0.8, 0.7, 0.6])
    each = [k_step_advantages(REWARDS, discounts, VALUES, FOLLOWING, ONES, k) for k in (1, 2, 3, 4)]
    mixture = 0.5 * each[0] + 0.25 * each[1] + 0.125 * each[2] + 0.125 * each[3]
    expected = gae(REWARDS, discounts, VALUES, FOLLOWING, jnp.full(4, decay))
    np.testing.assert_allclose(mixture, expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_it_can_be_differentiated_and_vmapped():
    def advantages(rewards: jax.Array, values: jax.Array) -> jax.Array:
        discounts, continues = jnp.full(4, 0.5), jnp.ones(4)
        return theory.k_step_advantages(rewards, discounts, values, 2 * values, continues, 3)

    rewards, values = np.random.default_rng(0).normal(size=(2, 5, 4))
    check_grads(jax.jit(jax.vmap(advantages)), (rewards, values), order=1, modes=("fwd", "rev"))
