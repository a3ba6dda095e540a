from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.samples import samples_at
from support.settings import policy_for, setting_of
from surefoot.baselines import TimeDependent
from surefoot.envs import EndlessReward

KEY = jax.random.key(0)
RETURNS = jnp.array([[1.0, 2.0, 6.0], [3.0, 4.0, 0.0], [8.0, 0.0, 0.0]])
VALID = jnp.array([[True, True, True], [True, True, False], [True, False, False]])
SEEN = jnp.ones((*RETURNS.shape, 2))
BASELINE = TimeDependent()


def test_it_is_the_mean_return_of_each_step_over_the_episodes_that_reached_it():
    fitted = BASELINE.fit(BASELINE.init(KEY, 2, 3), samples_at(SEEN, RETURNS, VALID))
    values = BASELINE.values(fitted, jnp.ones((4, 2)), jnp.arange(4.0))
    # What follows the time limit counts as the last step does, where it counts at all.
    np.testing.assert_array_equal(values, [4.0, 3.0, 6.0, 6.0])


def test_the_time_is_that_of_the_episode_and_not_of_the_row():
    """In a stream an episode may begin anywhere."""
    samples = replace(
        samples_at(jnp.ones((1, 4, 2)), jnp.array([[10.0, 20.0, 30.0, 40.0]]), jnp.ones((1, 4), bool)),
        times=jnp.array([[1.0, 2.0, 0.0, 1.0]]),
    )
    fitted = BASELINE.fit(BASELINE.init(KEY, 2, 3), samples)
    values = BASELINE.values(fitted, jnp.ones((5, 2)), jnp.array([2.0, 1.0, 0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(values, [20.0, 25.0, 30.0, 25.0, 20.0])


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
    np.testing.assert_array_equal(fitted, [4.0, 3.0, 6.0])


def test_where_returns_go_on_after_the_limit_values_grow_to_the_fixed_point():
    """A reward of 1 for ever: V = 1 / (1 − γ), which a zero after the limit would never reach."""
    env = EndlessReward(horizon=4, actions="continuous")
    setting = setting_of(env, episodes=3, baseline=BASELINE, discount=0.5)
    estimator, policy = setting.estimator, policy_for(setting)
    fitted, scales = estimator.init(KEY, env)
    rollout = setting.sampler.submit(policy, env.sample_tasks(KEY, 1)[0], KEY).result()
    prepared = estimator.prepare(rollout, scales)
    for _ in range(20):
        fitted = BASELINE.fit(fitted, estimator.samples(prepared, fitted))
    np.testing.assert_allclose(fitted, jnp.full(4, 2.0), rtol=1e-4)
