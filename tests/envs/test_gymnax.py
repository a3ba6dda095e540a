import dataclasses
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.checks import check_env
from surefoot.checks.common import random_actions
from surefoot.envs import Gymnax, Step
from surefoot.envs.gymnax import _make
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.samplers import ScanSampler
from surefoot.types import Continuous, Discrete

KEY = jax.random.key(0)
TASK = jnp.zeros(0)
SPACES = {
    "CartPole-v1": ((4,), Discrete(2), 500),
    "Pendulum-v1": ((3,), Continuous(1), 200),
    "Acrobot-v1": ((6,), Discrete(3), 500),
    "MountainCar-v0": ((2,), Discrete(3), 200),
    "MountainCarContinuous-v0": ((2,), Continuous(1), 999),
}
STATES = {
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "Pendulum-v1": ("theta", "theta_dot"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
}
BOUNDS = {"Pendulum-v1": (-2.0, 2.0), "MountainCarContinuous-v0": (-1.0, 1.0)}


@partial(jax.jit, static_argnums=0)
def step(env: Gymnax, key: jax.Array, state: Any, action: jax.Array) -> Step:
    return env.step(key, state, action, TASK)


def replaced(name: str, **values: float) -> Any:
    """A state of gymnax's with some of its numbers set."""
    state, _ = Gymnax(name).reset(KEY, TASK)
    return state.replace(**{k: jnp.asarray(v, float) for k, v in values.items()})


def random_episode(env: Gymnax, key: jax.Array) -> tuple[jax.Array, Step]:
    """Actions and steps, `horizon` of them, whether or not one terminates."""
    actions = random_actions(env.action_space, key, (env.horizon,))
    keys = jax.random.split(key, env.horizon)

    def advance(state: Any, xs: Any) -> tuple[Any, Step]:
        step = env.step(xs[1], state, xs[0], TASK)
        return step.state, step

    return actions, jax.lax.scan(advance, env.reset(key, TASK)[0], (actions, keys))[1]


def own_episode(env: Gymnax, key: jax.Array, actions: jax.Array) -> tuple[np.ndarray, ...]:
    """The same in gymnax's own terms: observations, rewards, ends."""
    own, parameters = gymnax.make(env.name)
    space = own.action_space(parameters)
    if isinstance(env.action_space, Continuous):
        actions = jnp.clip(actions, space.low, space.high)
    own_step = jax.jit(own.step_env)
    _, state = own.reset_env(key, parameters)
    record = []
    for action, step_key in zip(actions, jax.random.split(key, env.horizon), strict=True):
        observation, state, reward, terminated, _ = own_step(step_key, state, action, parameters)
        record.append((observation, reward, terminated))
    return tuple(np.stack([np.asarray(x) for x in xs]) for xs in zip(*record, strict=True))


@pytest.mark.parametrize("name", SPACES)
def test_what_it_is(name: str):
    env = Gymnax(name)
    assert (env.observation_space.shape, env.action_space, env.horizon) == SPACES[name]
    assert not env.time_limit_ends_return
    assert env.horizon == gymnasium.spec(name).max_episode_steps


@pytest.mark.parametrize("name", SPACES)
def test_it_keeps_the_contract(name: str):
    assert check_env(Gymnax(name)) == []


@pytest.mark.parametrize("name", SPACES)
def test_its_steps_are_those_of_gymnax_also_past_its_time_limit(name: str):
    env = Gymnax(name, time_limit=SPACES[name][-1] + 20)
    actions, steps = jax.jit(lambda key: random_episode(env, key))(KEY)
    with jax.numpy_dtype_promotion("standard"):
        observations, rewards, ends = own_episode(env, KEY, actions)
    # Neither obeys an end here; what follows one is nobody's concern.
    n = int(np.argmax(ends)) + 1 if ends.any() else env.horizon
    np.testing.assert_allclose(steps.observation[:n], observations[:n], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(steps.reward[:n], rewards[:n], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(steps.terminated[:n], ends[:n])


@pytest.mark.parametrize("name", SPACES)
def test_its_steps_are_those_of_gymnasium(name: str, x64: None):
    env, other = Gymnax(name), gymnasium.make(name).unwrapped
    for episode in range(3):
        key = jax.random.fold_in(KEY, episode)
        other.reset(seed=episode)
        state, _ = env.reset(key, TASK)
        for action in random_actions(env.action_space, key, (50,)):
            other.state = np.array([float(getattr(state, x)) for x in STATES[name]])
            done = step(env, KEY, state, action)
            clipped = np.clip(action, *BOUNDS[name]) if name in BOUNDS else int(action)
            observation, reward, terminated, _, _ = other.step(clipped)
            np.testing.assert_allclose(done.observation, observation, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(done.reward, reward, rtol=1e-5, atol=1e-5)
            assert bool(done.terminated) == terminated
            if terminated:
                break
            state = done.state


@pytest.mark.parametrize(
    ("name", "state", "action"),
    [
        ("CartPole-v1", {"theta": 0.209, "theta_dot": 1.0}, 0),
        ("CartPole-v1", {"x": 2.39, "x_dot": 1.0}, 1),
        ("MountainCar-v0", {"position": 0.49, "velocity": 0.05}, 2),
        ("MountainCar-v0", {"position": -1.19, "velocity": -0.05}, 0),
        ("Acrobot-v1", {"joint_angle1": 3.0, "joint_angle2": 0.1}, 0),
        ("MountainCarContinuous-v0", {"position": 0.44, "velocity": 0.05}, [1.0]),
    ],
)
def test_ends_and_walls_are_those_of_gymnasium(name: str, state: dict, action: Any):
    other = gymnasium.make(name).unwrapped
    other.reset(seed=0)
    start = replaced(name, **state)
    other.state = np.array([float(getattr(start, x)) for x in STATES[name]])
    kind = jnp.int32 if isinstance(action, int) else float
    done = step(Gymnax(name), KEY, start, jnp.asarray(action, kind))
    observation, reward, terminated, _, _ = other.step(
        np.array(action) if isinstance(action, list) else action
    )
    np.testing.assert_allclose(done.observation, observation, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(done.reward, reward, rtol=1e-5)
    assert bool(done.terminated) == terminated == (state.get("position") != -1.19)


def test_where_gymnax_differs_from_gymnasium():
    name = "MountainCarContinuous-v0"
    other = gymnasium.make(name).unwrapped
    other.reset(seed=0)
    other.state = np.array([-1.19, -0.05])
    left = step(Gymnax(name), KEY, replaced(name, position=-1.19, velocity=-0.05), jnp.array([-1.0]))
    np.testing.assert_allclose(left.observation[0], other.step(np.array([-1.0]))[0][0])
    assert other.state[1] == 0
    assert left.observation[1] < -0.04


def test_cartpole_earns_1_a_step_and_ends_when_it_falls():
    rollout = ScanSampler(Gymnax(), episodes=8).submit(_policy(Gymnax()), TASK, KEY).result()
    valid = np.asarray(rollout.valid)
    assert rollout.rewards.shape == (8, 500)
    np.testing.assert_array_equal(rollout.rewards, valid)
    assert (valid.sum(1) < 200).all()
    np.testing.assert_array_equal(rollout.terminated.sum(1), 1)
    assert not rollout.truncated.any()


@pytest.mark.parametrize("limit", [None, 300])
def test_the_time_limit_is_counted_by_the_sampler_alone(limit: int | None):
    env = Gymnax("Pendulum-v1", limit)
    rollout = ScanSampler(env, episodes=2).submit(_policy(env), TASK, KEY).result()
    assert rollout.rewards.shape == (2, limit or 200)
    assert rollout.valid.all()
    assert not rollout.terminated.any()
    np.testing.assert_array_equal(rollout.truncated.sum(1), 1)
    assert rollout.truncated[:, -1].all()


def test_actions_beyond_the_bounds_are_as_those_at_the_bounds():
    env, state = Gymnax("MountainCarContinuous-v0"), replaced("MountainCarContinuous-v0", position=-0.5)
    far, near = (step(env, KEY, state, jnp.array([a])) for a in (9.0, 1.0))
    assert eqx.tree_equal(far, near)
    np.testing.assert_allclose(far.reward, -0.1, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "size"),
    [("Catch-bsuite", 50), ("FourRooms-misc", 4), ("FrozenLake-misc", 16), ("PointRobot-misc", 6)],
)
def test_other_observations_become_vectors_of_floats(name: str, size: int):
    env = Gymnax(name)
    state, observation = jax.eval_shape(env.reset, KEY, TASK)
    done = jax.eval_shape(env.step, KEY, state, random_actions(env.action_space, KEY), TASK)
    for x in (observation, done.observation):
        assert (x.shape, x.dtype) == (env.observation_space.shape, jnp.float32)
        assert x.size == size


@pytest.mark.parametrize("name", [*SPACES, "BernoulliBandit-misc"])
def test_states_and_results_keep_their_dtypes_in_double_precision(name: str, x64: None):
    env = Gymnax(name, 3)
    _, steps = jax.eval_shape(lambda key: random_episode(env, key), KEY)
    assert steps.observation.dtype == steps.reward.dtype == jnp.float64


@pytest.mark.parametrize("name", SPACES)
def test_nothing_is_weakly_typed(name: str):
    env = Gymnax(name)
    start = jax.eval_shape(env.reset, KEY, TASK)
    done = jax.eval_shape(env.step, KEY, start[0], random_actions(env.action_space, KEY), TASK)
    assert not any(x.weak_type for x in jax.tree.leaves((start, done)))


def test_it_may_first_be_met_in_a_compiled_program():
    _make.cache_clear()
    env = Gymnax("Acrobot-v1")
    inside = jax.jit(lambda key: env.reset(key, TASK)[1])(KEY)
    np.testing.assert_array_equal(inside, env.reset(KEY, TASK)[1])
    action = jnp.zeros((), jnp.int32)
    assert env.step(KEY, env.reset(KEY, TASK)[0], action, TASK).reward == -1


def test_it_is_a_constant_known_by_its_options():
    assert Gymnax() == Gymnax("CartPole-v1")
    assert len({Gymnax(), Gymnax("CartPole-v1"), Gymnax(time_limit=7)}) == 2
    assert dataclasses.replace(Gymnax(), name="Pendulum-v1").horizon == 200


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(UserError, match=r"no environment 'Cartpole-v1'\. Did you mean 'CartPole-v1'"):
        _ = Gymnax("Cartpole-v1").horizon


def test_an_environment_that_cannot_be_made_is_one_message(monkeypatch: pytest.MonkeyPatch):
    def fails(name: str) -> Any:
        raise OSError(f"no data for {name}")

    monkeypatch.setattr("gymnax.make", fails)
    with pytest.raises(UserError, match="Making gymnax's 'Asterix-MinAtar' raised OSError: no data"):
        _ = Gymnax("Asterix-MinAtar").observation_space


def test_without_gymnax_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    _make.cache_clear()
    monkeypatch.setitem(sys.modules, "gymnax", None)
    env = Gymnax()
    with pytest.raises(UserError, match=r"pip install 'surefoot\[gymnax\]'"):
        _ = env.observation_space


def test_actions_of_other_kinds_are_refused(monkeypatch: pytest.MonkeyPatch):
    odd = SimpleNamespace(
        action_space=lambda parameters: "a tuple of spaces", observation_space=lambda parameters: None
    )
    monkeypatch.setattr(gymnax, "make", lambda name: (odd, None))
    _make.cache_clear()
    with pytest.raises(UserError, match="sample from a Discrete or a Box"):
        _ = Gymnax().action_space


def test_a_time_limit_of_no_steps_is_refused():
    with pytest.raises(UserError, match="time-limit is 0; it must be 1 or more"):
        Gymnax(time_limit=0)


def test_surefoot_without_it_does_not_import_gymnax():
    program = "import sys, surefoot.envs as e; e.Gymnax('Pendulum-v1'); print('gymnax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_gymnax_s_pictures_need_is_imported_when_they_are_drawn():
    program = """
import sys
from surefoot.envs import Gymnax
print(Gymnax().horizon, "scipy.stats" in sys.modules, "seaborn" in sys.modules)
from gymnax.environments.misc import pong
print(len(pong.sns.color_palette("cubehelix", 3)), "seaborn" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "500 False False\n3 True\n"


def _policy(env: Gymnax) -> Any:
    options = CategoricalMLP if isinstance(env.action_space, Discrete) else GaussianMLP
    return options(hidden=()).build(KEY, env.observation_space, env.action_space)
