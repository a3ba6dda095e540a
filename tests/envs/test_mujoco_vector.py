import threading
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode

from surefoot.envs import (
    Ant,
    HalfCheetahDir,
    HalfCheetahVel,
    HopperParams,
    InvertedDoublePendulum,
    InvertedPendulum,
    Walker2d,
)
from surefoot.envs.mujoco import physics
from surefoot.envs.mujoco.vector import MujocoVectorEnv
from surefoot.options import UserError


def played(env: MujocoVectorEnv, seed: int | None, steps: int) -> list[Any]:
    env.action_space.seed(0)
    results = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        results.extend(env.step(env.action_space.sample())[:4])
    return results


def test_what_it_is():
    env = MujocoVectorEnv(InvertedPendulum(), 3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    theirs = gymnasium.make("InvertedPendulum-v5")
    assert env.single_action_space == theirs.action_space
    assert (env.single_observation_space.shape, env.single_observation_space.dtype) == ((4,), np.float32)
    observations, infos = env.reset(seed=0)
    assert observations in env.observation_space
    assert infos == {}
    observations, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
    assert observations in env.observation_space
    assert [x.dtype for x in (rewards, terminated, truncated)] == [np.float64, bool, bool]
    assert [x.shape for x in (rewards, terminated, truncated)] == [(3,)] * 3
    env.close()


@pytest.mark.parametrize("family", [InvertedDoublePendulum(), Ant()])
def test_the_first_episodes_are_those_of_gymnasiums_own_vector(family: Any):
    env = MujocoVectorEnv(family, 3)
    theirs = gymnasium.make_vec(f"{type(family).__name__}-v5", num_envs=3, vectorization_mode="sync")
    first, _ = theirs.reset(seed=40)
    np.testing.assert_array_equal(env.reset(seed=40)[0], first.astype(np.float32))
    theirs.action_space.seed(1)
    first_episode, again = np.ones(3, bool), np.zeros(3, bool)
    for _ in range(40):
        actions = theirs.action_space.sample()
        ours, expected = env.step(actions), theirs.step(actions)
        first_episode &= ~again
        for a, b in zip(ours[:1] + ours[2:4], expected[:1] + expected[2:4], strict=True):
            np.testing.assert_array_equal(a[first_episode], b.astype(a.dtype)[first_episode])
        np.testing.assert_allclose(ours[1][first_episode], expected[1][first_episode], rtol=2e-7, atol=2e-7)
        again = ours[2] | ours[3]
    env.close()
    theirs.close()


def test_a_seed_gives_the_same_trajectories_and_another_gives_others():
    with_one, with_two = (MujocoVectorEnv(HopperParams(), 3, threads=n) for n in (1, 2))
    first = played(with_one, 5, 60)
    for again in (played(with_one, 5, 60), played(with_two, 5, 60)):
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], played(with_one, 6, 0)[0])
    assert not np.array_equal(first[0], played(with_one, None, 0)[0])
    a, b = (played(MujocoVectorEnv(InvertedPendulum(), 2), None, 0)[0] for _ in range(2))
    assert not np.array_equal(a, b)


def test_rows_are_seeded_one_by_one():
    env = MujocoVectorEnv(InvertedPendulum(), 3)
    together, _ = env.reset(seed=7)
    np.testing.assert_array_equal(env.reset(seed=[9, 8, 7])[0], together[::-1])
    np.testing.assert_array_equal(env.reset(seed=np.array([9, 8, 7]))[0], together[::-1])
    assert env.np_random_seed == (9, 8, 7)
    large, _ = env.reset(seed=[7 + 2**32, 7, 2**64 - 1])
    np.testing.assert_array_equal(large[1], together[0])
    assert not np.array_equal(large[0], large[1])


def test_steps_are_the_simulators_and_the_next_step_begins_anew():
    """Against a loop written out over the simulator, with truncations and terminations among its ends."""
    family = InvertedPendulum(horizon=12)
    env, simulator = MujocoVectorEnv(family, 4), family.simulator(threads=1)
    seeds, episodes, times = np.array([3, 4, 5, 6]), np.zeros(4, int), np.zeros(4, int)

    def keys() -> np.ndarray:
        return np.column_stack([episodes, np.zeros(4, int), seeds]).astype(np.uint32)

    expected = simulator.begin(keys(), jnp.zeros((4, 0)))
    np.testing.assert_array_equal(env.reset(seed=3)[0], expected)
    ended = np.zeros(4, bool)
    ends = np.zeros(2, int)
    generator = np.random.default_rng(0)
    for _ in range(80):
        actions = generator.uniform(-3, 3, (4, 1)).astype(np.float32)
        observations, rewards, terminated, truncated, infos = env.step(actions)
        for i in range(4):
            row = np.array([i])
            if ended[i]:
                episodes[i] += 1
                times[i] = 0
                expected[i] = simulator.renew(row, keys()[row])[0]
                assert (rewards[i], terminated[i], truncated[i]) == (0, False, False)
            else:
                times[i] += 1
                outcome = simulator.step(row, actions[row])
                expected[i] = outcome.observations[0]
                assert (rewards[i], terminated[i]) == (outcome.rewards[0], outcome.terminated[0])
                assert truncated[i] == (times[i] == 12)
        np.testing.assert_array_equal(observations, expected)
        assert infos == {}
        ended = terminated | truncated
        ends += terminated.sum(), truncated.sum()
    assert ends.min() > 2


def test_what_it_returned_is_not_changed_afterwards():
    env = MujocoVectorEnv(InvertedPendulum(), 2)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second = env.step(env.action_space.sample())
    copies = [x.copy() for x in second[:4]]
    env.step(env.action_space.sample())
    np.testing.assert_array_equal(first, kept)
    for ours, copy in zip(second[:4], copies, strict=True):
        np.testing.assert_array_equal(ours, copy)


def test_tasks_are_drawn_with_the_seeds_and_kept_between():
    env = MujocoVectorEnv(HalfCheetahDir(horizon=2), 8)
    env.reset(seed=0)
    drawn = env.tasks
    assert set(np.unique(drawn)) == {-1, 1}
    for _ in range(4):
        env.step(env.action_space.sample())
    env.reset()
    np.testing.assert_array_equal(env.tasks, drawn)
    env.reset(seed=1)
    assert not np.array_equal(env.tasks, drawn)


@pytest.mark.parametrize("how", ["at first", "by options"])
def test_tasks_that_are_given_stay(how: str):
    tasks = np.array([1.0, -1.0], np.float32)
    env = MujocoVectorEnv(HalfCheetahDir(), 2, tasks=tasks if how == "at first" else None)
    env.reset(seed=[0, 0], options={} if how == "at first" else {"tasks": tasks})
    for seed in ([1, 1], [2, 2]):
        np.testing.assert_array_equal(env.tasks, tasks)
        rewards = env.step(np.zeros((2, 6), np.float32))[1]
        assert rewards[0] == -rewards[1] != 0
        env.reset(seed=seed)


def test_tasks_of_another_form_are_refused():
    with pytest.raises(UserError, match="tasks of another form"):
        MujocoVectorEnv(HalfCheetahDir(), 2, tasks=np.ones(3, np.float32))
    env = MujocoVectorEnv(HopperParams(), 2)
    tasks = HopperParams().sample_tasks(jax.random.key(0), 2)
    env.reset(seed=0, options={"tasks": tasks})
    with pytest.raises(UserError, match="tasks of another form"):
        env.reset(options={"tasks": {"body_mass": tasks["body_mass"]}})


def test_what_is_wrong_is_refused():
    for options in ({"num_envs": 0}, {"num_envs": 1, "threads": 0}, {"num_envs": 1, "width": 0}):
        with pytest.raises(UserError, match="must be"):
            MujocoVectorEnv(Walker2d(), **options)
    env = MujocoVectorEnv(Walker2d(), 2)
    with pytest.raises(ResetNeeded):
        env.step(env.action_space.sample())
    for seed in ([1], -1, [0, 2**64], [0, 1.5], 0.5, "ab", True, [True, False], [[1, 2]], object()):
        with pytest.raises(UserError, match=r"seed is .*; it must be"):
            env.reset(seed=seed)
    with pytest.raises(ResetNeeded):  # a refused seed changes nothing
        env.step(env.action_space.sample())


def test_closing_ends_the_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(physics, "_WAKING_SECONDS", -1.0)  # for so few they would not be woken
    before = set(threading.enumerate())
    env = MujocoVectorEnv(Ant(), 2, threads=2)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert set(threading.enumerate()) > before
    env.close()
    assert env.closed
    assert set(threading.enumerate()) == before
    env.close()


def test_what_was_closed_says_so():
    env = MujocoVectorEnv(Walker2d(), 2)
    env.reset(seed=0)
    env.close()
    for call in (env.reset, lambda: env.step(env.action_space.sample())):
        with pytest.raises(ClosedEnvironmentError, match="make new ones"):
            call()


def test_rows_that_are_reset_alone_have_the_rewards_of_their_new_tasks():
    env = MujocoVectorEnv(HalfCheetahVel(), 2)
    env.reset(seed=[1, 2])
    before = np.asarray(env.tasks)
    env.reset(seed=[100, None], options={"reset_mask": np.array([True, False])})
    assert env.tasks[0] != before[0]
    assert env.tasks[1] == before[1]
    fresh = MujocoVectorEnv(HalfCheetahVel(), 2, tasks=env.tasks)
    fresh.reset(seed=[100, 2])
    actions = np.zeros(env.action_space.shape, np.float32)
    assert env.step(actions)[1][0] == fresh.step(actions)[1][0]
    env.close()
    fresh.close()
