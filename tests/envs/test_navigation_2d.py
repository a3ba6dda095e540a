import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.envs import Navigation2D, Step
from surefoot.options import UserError
from surefoot.types import Continuous, vector

KEY = jax.random.key(0)


_step = jax.jit(lambda position, action, goal: Navigation2D().step(KEY, position, action, goal))


def move(position: list[float], action: list[float], goal: list[float]) -> Step:
    return _step(jnp.array(position), jnp.array(action), jnp.array(goal))


def test_what_it_is():
    env = Navigation2D()
    assert (env.observation_space, env.action_space, env.horizon) == (vector(2), Continuous(2), 100)
    assert env.time_limit_ends_return


def test_an_episode_starts_at_the_origin_and_does_not_show_the_goal():
    state, observation = Navigation2D().reset(KEY, jnp.array([0.3, -0.2]))
    np.testing.assert_array_equal(state, [0.0, 0.0])
    np.testing.assert_array_equal(observation, [0.0, 0.0])


def test_a_step_by_hand():
    step = move([0.1, 0.0], [0.05, -0.05], [0.15, 0.35])
    np.testing.assert_allclose(step.observation, [0.15, -0.05], rtol=1e-6)
    np.testing.assert_allclose(step.state, step.observation)
    np.testing.assert_allclose(step.reward, -0.4, rtol=1e-6)
    assert not step.terminated


def test_velocities_are_clipped_in_each_axis():
    step = move([0.0, 0.0], [7.0, -0.3], [0.4, -0.5])
    np.testing.assert_allclose(step.observation, [0.1, -0.1], rtol=1e-6)
    np.testing.assert_allclose(step.reward, -0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("goal", "reached"),
    [([0.009, -0.009], True), ([0.011, 0.0], False), ([0.0, -0.011], False), ([0.0, 0.0], True)],
)
def test_it_terminates_close_to_the_goal_in_both_axes(goal: list[float], reached: bool):
    assert bool(move([0.0, 0.0], [0.0, 0.0], goal).terminated) is reached


@pytest.mark.parametrize("half_width", [0.5, 2.0])
def test_goals_are_uniform_on_the_square(half_width: float):
    n = 4000
    goals = np.asarray(Navigation2D(goal_range=half_width).sample_tasks(KEY, n))
    assert goals.shape == (n, 2)
    assert np.abs(goals).max() <= half_width
    assert np.abs(goals).max() > 0.99 * half_width
    # A uniform variable on ±w has variance w²/3, and its square has variance 4w⁴/45.
    np.testing.assert_array_less(np.abs(goals.mean(0)), 4 * half_width * np.sqrt(1 / 3 / n))
    error = np.abs((goals**2).mean(0) - half_width**2 / 3)
    np.testing.assert_array_less(error, 4 * half_width**2 * np.sqrt(4 / 45 / n))


def test_tasks_depend_on_the_key_alone():
    env = Navigation2D()
    np.testing.assert_array_equal(env.sample_tasks(KEY, 3), env.sample_tasks(KEY, 3))
    assert not jnp.allclose(env.sample_tasks(KEY, 3), env.sample_tasks(jax.random.key(1), 3))


@pytest.mark.parametrize("options", [{"horizon": 0}, {"goal_range": 0.0}])
def test_wrong_options_are_refused(options: dict):
    with pytest.raises(UserError, match="must be"):
        Navigation2D(**options)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_its_simulator_is_restored_in_another_with_any_kind_of_keys(kind: str):
    with jax.default_prng_impl(kind):
        goals = jnp.zeros((2, 2))
        keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), 2)))
        one, other = (Navigation2D().simulator(2) for _ in range(2))
        one.begin(keys, goals)
        one.step(np.arange(2), np.full((2, 2), 0.05, np.float32))
        other.restore(one.save(), goals)
        steps = [x.step(np.arange(2), np.full((2, 2), 0.05, np.float32)) for x in (one, other)]
    np.testing.assert_array_equal(steps[0].observations, steps[1].observations)
