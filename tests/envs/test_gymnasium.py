import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import faults
from surefoot.envs import Gymnasium
from surefoot.envs.gymnasium_simulator import GymnasiumSimulator, seed_of
from surefoot.loading import relative
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.samplers import BatchedSampler
from surefoot.types import Continuous, Discrete, vector

KEY = jax.random.key(0)
KEYS = np.asarray(jax.random.key_data(jax.random.split(KEY, 3)))
MINE = "support.gymnasium_envs:"


@pytest.mark.parametrize(
    ("name", "limit", "size", "space"),
    [
        ("CartPole-v1", 500, 4, Discrete(2)),
        ("Pendulum-v1", 200, 3, Continuous(1)),
        ("FrozenLake-v1", 100, 16, Discrete(4)),
        ("Taxi-v4", 200, 500, Discrete(6)),
    ],
)
def test_what_it_says_of_itself(name: str, limit: int, size: int, space: Any):
    if name not in gymnasium.registry:
        name = "Taxi-v3"
    env = Gymnasium(name)
    assert (env.horizon, env.observation_space, env.action_space) == (limit, vector(size), space)
    assert Gymnasium(name, time_limit=7).horizon == 7
    assert not env.time_limit_ends_return
    assert env.sample_tasks(KEY, 3).shape == (3, 0)


def begun(env: Gymnasium, count: int = 3) -> tuple[GymnasiumSimulator, Any]:
    simulator = env.simulator(1)
    tasks = jax.tree.map(np.asarray, env.sample_tasks(KEY, count))
    return simulator, simulator.begin(KEYS[:count], tasks)


def test_episodes_are_those_of_gymnasium():
    simulator, observations = begun(Gymnasium("CartPole-v1"))
    actions = np.array([1, 0, 1])
    outcome = simulator.step(np.arange(3), actions)
    for i in range(3):
        env = gymnasium.make("CartPole-v1")
        first, _ = env.reset(seed=seed_of(KEYS[i]))
        np.testing.assert_array_equal(observations[i], first)
        observation, reward, terminated, _, _ = env.step(actions[i])
        np.testing.assert_array_equal(outcome.observations[i], observation)
        assert (outcome.rewards[i], outcome.terminated[i]) == (reward, terminated)
    simulator.close()


def test_some_rows_step_and_begin_anew_while_the_others_stay():
    simulator, observations = begun(Gymnasium("CartPole-v1"))
    some = simulator.step(np.array([2, 0]), np.array([1, 1]))
    rest = simulator.step(np.array([1]), np.array([1]))
    again = simulator.renew(np.array([1]), KEYS[1:2])
    np.testing.assert_array_equal(again[0], observations[1])
    simulator.begin(KEYS, np.zeros((3, 0)))
    together = simulator.step(np.arange(3), np.ones(3, int)).observations
    np.testing.assert_array_equal(
        together, np.stack([*some.observations[::-1], *rest.observations])[[0, 2, 1]]
    )


def test_actions_are_clipped_to_the_bounds():
    simulator, _ = begun(Gymnasium("Pendulum-v1"), 2)
    outcome = simulator.step(np.arange(2), np.array([[9.0], [2.0]], np.float32))
    simulator.begin(KEYS[:2], np.zeros((2, 0)))
    clipped = simulator.step(np.arange(2), np.array([[2.0], [2.0]], np.float32))
    np.testing.assert_array_equal(outcome.observations, clipped.observations)


def test_the_horizon_is_the_samplers_to_count():
    env = Gymnasium("MountainCar-v0", time_limit=210)  # registered with 200
    policy = CategoricalMLP(hidden=()).build(KEY, 2, env.action_space)
    rollout = BatchedSampler(env, 1, 1).submit(policy, env.sample_tasks(KEY, 1)[0], KEY).result()
    assert rollout.valid.all()
    assert rollout.truncated[0].nonzero()[0].tolist() == [209]
    assert not rollout.terminated.any()


def test_tasks_are_told_at_reset():
    env = Gymnasium(MINE + "Goals", time_limit=5)
    tasks = env.sample_tasks(KEY, 3)
    assert tasks["goal"].shape == (3, 2)
    assert tasks["goal"].dtype == jnp.float32
    simulator, observations = begun(env)
    np.testing.assert_array_equal(observations["goal"], tasks["goal"])
    rewards = simulator.step(np.arange(3), np.zeros((3, 2), np.float32)).rewards
    np.testing.assert_allclose(rewards, -np.linalg.norm(tasks["goal"], axis=1), rtol=1e-6)


def test_tasks_can_be_drawn_within_a_program():
    env = Gymnasium(MINE + "Goals", time_limit=5)
    expected = env.sample_tasks(KEY, 4)["goal"]
    assert jax.eval_shape(lambda k: env.sample_tasks(k, 4), KEY)["goal"].shape == (4, 2)
    np.testing.assert_array_equal(jax.jit(lambda k: env.sample_tasks(k, 4))(KEY)["goal"], expected)
    many = jax.vmap(lambda k: env.sample_tasks(k, 4))(jax.random.split(KEY, 2))["goal"]
    np.testing.assert_array_equal(many[1], env.sample_tasks(jax.random.split(KEY, 2)[1], 4)["goal"])
    assert (expected != env.sample_tasks(jax.random.key(1), 4)["goal"]).all()


def test_continuous_actions_of_any_shape():
    env = Gymnasium(MINE + "Goals", time_limit=5)
    policy = GaussianMLP(hidden=()).build(KEY, env.observation_space, env.action_space)
    rollout = BatchedSampler(env, 2, 1).submit(policy, {"goal": jnp.ones(2)}, KEY).result()
    assert rollout.actions.shape == (2, 5, 2)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CartPole-v9", "CartPole-v9"),
        ("CartPool-v1", "Did you mean 'CartPole-v1'"),
        ("no_such_module:Maze", "There is no module 'no_such_module'"),
        (MINE + "Goal", "Did you mean 'Goals'"),
        (MINE + "NoEnv", "is no gymnasium.Env"),
        (MINE + "Fails", "Making the environment support.gymnasium_envs:Fails raised ValueError: no walls"),
        (MINE + "Text", "cannot be flattened"),
        (MINE + "WholeActions", "or a Box of real numbers"),
        (MINE + "TextActions", "or a Box of real numbers"),
    ],
)
def test_what_cannot_be_used_is_an_error(name: str, told: str):
    with pytest.raises(UserError) as raised:
        _ = Gymnasium(name, time_limit=5).observation_space
    assert told in str(raised.value)


def test_whole_episodes_need_a_time_limit():
    env = Gymnasium(MINE + "Goals")
    assert env.horizon == 0
    policy = GaussianMLP(hidden=()).build(KEY, env.observation_space, env.action_space)
    with pytest.raises(UserError, match=r"states no time limit, .* set --env\.time-limit STEPS, or"):
        BatchedSampler(env, 1, 1).submit(policy, {"goal": jnp.ones(2)}, KEY).result()
    with pytest.raises(UserError, match="time-limit is 0"):
        Gymnasium(time_limit=0)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("TooMany", "each must have a leading axis of 1"),
        ("NoTasks", "raised KeyError: 'no'"),
        ("Changeable", "which cannot hold them"),
    ],
)
def test_tasks_of_the_wrong_form_are_an_error(name: str, told: str):
    with pytest.raises(UserError) as raised:
        Gymnasium(MINE + name, time_limit=5).sample_tasks(KEY, 2)
    assert told in str(raised.value)


def test_failures_name_the_environment_the_task_and_the_seed():
    simulator, _ = begun(Gymnasium("support.faults:Faulty", time_limit=5), 1)
    simulator.begin(KEYS[:1], np.array([[5.0, 0.0]]))
    one = np.array([0])
    for _ in range(2):
        simulator.step(one, one)
    with pytest.raises(UserError) as raised:
        simulator.step(one, one)
    seed, line = seed_of(KEYS[0]), inspect.getsource(faults).split("the wall")[0].count("\n") + 1
    assert str(raised.value) == (
        "support.faults:Faulty: `step` raised ValueError: the wall is too high at "
        f"{relative(faults.__file__)}:{line}. That was at step 3 in the episode of the task array([5., 0.]) "
        f"with the seed {seed}."
    )
    assert isinstance(raised.value.__cause__, ValueError)


def test_without_gymnasium_there_is_one_clear_error():
    program = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "from surefoot.envs import Gymnasium\n"
        "Gymnasium().horizon"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "UserError: Gymnasium's environments need gymnasium" in done.stderr
    assert "pip install 'surefoot[gymnasium]'" in done.stderr


def test_a_file_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = Path(__file__).parents[1] / "support" / "gymnasium_envs.py"
    (tmp_path / "mazes_of_mine.py").write_text(source.read_text())
    space = Gymnasium(f"{tmp_path}/mazes_of_mine.py:Goals", time_limit=3).observation_space
    assert space == {"goal": vector(2), "position": vector(2)}
