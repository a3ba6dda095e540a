import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.envs import MDP, TabularMDP
from surefoot.options import UserError
from surefoot.types import Discrete, vector

KEY = jax.random.key(0)
DRAWS = 4000
ENV = TabularMDP(states=3, actions=2, horizon=5)
# From state 0: action 0 leads to state 2 for certain, action 1 to each with probability (½, ¼, ¼).
KNOWN = MDP(
    transitions=jnp.array(
        [[[0.0, 0.0, 1.0], [0.5, 0.25, 0.25]], [[1.0, 0, 0], [1.0, 0, 0]], [[0, 1.0, 0], [0, 1.0, 0]]]
    ),
    rewards=jnp.array([[1.0, -2.0], [0.0, 0.0], [0.0, 5.0]]),
)


@jax.jit
def _steps(state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        step = ENV.step(key, state, action, KNOWN)
        return step.state, step.reward, step.observation

    return jax.vmap(one)(jax.random.split(KEY, DRAWS))


def steps(state: int, action: int) -> list[np.ndarray]:
    return [np.asarray(x) for x in _steps(jnp.array(state, jnp.int32), jnp.array(action, jnp.int32))]


def test_what_it_is():
    assert (ENV.observation_space, ENV.action_space, ENV.horizon) == (vector(3), Discrete(2), 5)
    assert ENV.time_limit_ends_return


def test_an_episode_starts_in_state_0_and_shows_it_one_hot():
    state, observation = ENV.reset(KEY, KNOWN)
    assert state == 0
    np.testing.assert_array_equal(observation, [1.0, 0.0, 0.0])


def test_transitions_that_are_certain():
    assert (steps(0, 0)[0] == 2).all()
    following, _, observation = steps(2, 1)
    assert (following == 1).all()
    np.testing.assert_array_equal(observation, np.tile([0.0, 1.0, 0.0], (DRAWS, 1)))


def test_transitions_are_as_frequent_as_the_task_says():
    frequencies = np.bincount(steps(0, 1)[0], minlength=3) / DRAWS
    p = np.array([0.5, 0.25, 0.25])
    np.testing.assert_array_less(np.abs(frequencies - p), 4 * np.sqrt(p * (1 - p) / DRAWS))


@pytest.mark.parametrize(("state", "action", "mean"), [(0, 0, 1.0), (0, 1, -2.0), (2, 1, 5.0)])
def test_rewards_are_normal_about_the_mean_of_state_and_action(state: int, action: int, mean: float):
    rewards = steps(state, action)[1]
    assert abs(rewards.mean() - mean) < 4 / np.sqrt(DRAWS)
    np.testing.assert_allclose(rewards.std(), 1.0, rtol=4 / np.sqrt(2 * DRAWS))


def test_a_reward_says_nothing_of_where_its_step_leads():
    following, rewards, _ = steps(0, 1)
    correlation = np.corrcoef(np.asarray(following == 0, float), rewards)[0, 1]
    assert abs(correlation) < 4 / np.sqrt(DRAWS)


def test_it_never_terminates():
    step = ENV.step(KEY, jnp.array(0, jnp.int32), jnp.array(0, jnp.int32), KNOWN)
    assert not step.terminated


def test_tasks_have_flat_dirichlet_transitions_and_mean_rewards_about_1():
    tasks = jax.tree.map(np.asarray, jax.jit(lambda key: ENV.sample_tasks(key, 500))(KEY))
    assert tasks.transitions.shape == (500, 3, 2, 3)
    assert tasks.rewards.shape == (500, 3, 2)
    np.testing.assert_allclose(tasks.transitions.sum(-1), 1.0, rtol=1e-5)
    assert tasks.transitions.min() >= 0
    # Of 3 probabilities each has mean 1/3 and variance (1/3)(2/3)/4 = 1/18; 3000 rows.
    rows = np.asarray(tasks.transitions).reshape(-1, 3)
    np.testing.assert_array_less(np.abs(rows.mean(0) - 1 / 3), 4 * np.sqrt(1 / 18 / 3000))
    np.testing.assert_allclose(rows.var(0), 1 / 18, rtol=0.1)
    assert abs(tasks.rewards.mean() - 1) < 4 / np.sqrt(3000)
    np.testing.assert_allclose(tasks.rewards.std(), 1.0, rtol=4 / np.sqrt(6000))


@pytest.mark.parametrize("options", [{"states": 0}, {"actions": 1}, {"horizon": 0}])
def test_wrong_options_are_refused(options: dict):
    with pytest.raises(UserError, match="must be"):
        TabularMDP(**options)
