from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.samples import samples_at
from surefoot.baselines import TimeDependent

KEY = jax.random.key(0)
RETURNS = jnp.array([[1.0, 2.0, 6.0], [3.0, 4.0, 0.0], [8.0, 0.0, 0.0]])
VALID = jnp.array([[True, True, True], [True, True, False], [True, False, False]])
SEEN = jnp.ones((*RETURNS.shape, 2))
BASELINE = TimeDependent()


def test_it_is_the_mean_return_of_each_step_over_the_episodes_that_reached_it():
    fitted = BASELINE.fit(BASELINE.init(KEY, 2, 3), samples_at(SEEN, RETURNS, VALID))
    values = BASELINE.values(fitted, jnp.ones((4, 2)), jnp.arange(4.0))
    # Nothing follows the last step.
    np.testing.assert_array_equal(values, [4.0, 3.0, 6.0, 0.0])


def test_the_time_is_that_of_the_episode_and_not_of_the_row():
    """In a stream an episode may begin anywhere."""
    samples = replace(
        samples_at(jnp.ones((1, 4, 2)), jnp.array([[10.0, 20.0, 30.0, 40.0]]), jnp.ones((1, 4), bool)),
        times=jnp.array([[1.0, 2.0, 0.0, 1.0]]),
    )
    fitted = BASELINE.fit(BASELINE.init(KEY, 2, 3), samples)
    values = BASELINE.values(fitted, jnp.ones((5, 2)), jnp.array([2.0, 1.0, 0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(values, [20.0, 25.0, 30.0, 25.0, 0.0])


def test_before_anything_is_known_it_is_zero():
    values = BASELINE.values(BASELINE.init(KEY, 2, 3), jnp.ones((4, 2)), jnp.arange(4.0))
    np.testing.assert_array_equal(values, jnp.zeros(4))


@pytest.mark.parametrize("padding", [1e3, jnp.nan])
def test_padding_may_be_anything(padding: float):
    """Its time is zero, as samplers leave it."""
    clean = samples_at(SEEN, RETURNS, VALID)
    soiled = replace(
        clean, returns=jnp.where(VALID, RETURNS, padding), times=jnp.where(VALID, clean.times, 0.0)
    )
    fitted = BASELINE.fit(BASELINE.init(KEY, 2, 3), soiled)
    np.testing.assert_array_equal(fitted, [4.0, 3.0, 6.0, 0.0])
