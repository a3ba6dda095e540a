from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.envs import Bandit
from surefoot.options import UserError
from surefoot.types import Discrete, vector

KEY = jax.random.key(0)
DRAWS = 4000
MEANS = jnp.array([0.1, 0.8, 0.5])


@partial(jax.jit, static_argnums=0)
def _pulls(env: Bandit, action: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: env.step(key, None, action, MEANS).reward)(jax.random.split(KEY, DRAWS))


def pulls(env: Bandit, arm: int) -> np.ndarray:
    return np.asarray(_pulls(env, jnp.array(arm, jnp.int32)))


def test_what_it_is():
    env = Bandit(arms=3, horizon=7)
    assert (env.observation_space, env.action_space, env.horizon) == (vector(1), Discrete(3), 7)
    assert env.time_limit_ends_return


@pytest.mark.parametrize("arm", [0, 1])
def test_bernoulli_rewards_are_0_or_1_with_the_mean_of_the_arm(arm: int):
    rewards, mean = pulls(Bandit(arms=3), arm), float(MEANS[arm])
    assert set(np.unique(rewards)) == {0.0, 1.0}
    assert abs(rewards.mean() - mean) < 4 * np.sqrt(mean * (1 - mean) / DRAWS)


@pytest.mark.parametrize("arm", [0, 1])
def test_gaussian_rewards_have_the_mean_of_the_arm_and_the_noise_asked_for(arm: int):
    rewards = pulls(Bandit(arms=3, rewards="gaussian", noise=0.5), arm)
    assert abs(rewards.mean() - MEANS[arm]) < 4 * 0.5 / np.sqrt(DRAWS)
    np.testing.assert_allclose(rewards.std(), 0.5, rtol=4 / np.sqrt(2 * DRAWS))


def test_gaussian_rewards_without_noise_are_the_means():
    np.testing.assert_array_equal(pulls(Bandit(rewards="gaussian", noise=0.0), 2), jnp.full(DRAWS, 0.5))


def test_it_shows_a_constant_and_never_ends():
    env = Bandit(arms=3)
    state, observation = env.reset(KEY, MEANS)
    step = env.step(KEY, state, jnp.array(1, jnp.int32), MEANS)
    np.testing.assert_array_equal(observation, [1.0])
    np.testing.assert_array_equal(step.observation, [1.0])
    assert not step.terminated


def test_means_are_uniform_on_the_unit_interval():
    means = np.asarray(Bandit(arms=4).sample_tasks(KEY, 1000))
    assert means.shape == (1000, 4)
    assert means.min() >= 0
    assert means.max() <= 1
    np.testing.assert_array_less(np.abs(means.mean(0) - 0.5), 4 * np.sqrt(1 / 12 / 1000))
    np.testing.assert_array_less(np.abs((means**2).mean(0) - 1 / 3), 4 * np.sqrt(4 / 45 / 1000))


@pytest.mark.parametrize("options", [{"arms": 1}, {"noise": -1.0}, {"horizon": 0}])
def test_wrong_options_are_refused(options: dict):
    with pytest.raises(UserError, match="must be"):
        Bandit(**options)
