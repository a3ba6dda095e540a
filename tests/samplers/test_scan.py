from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from support.dense import identical
from support.probes import Clock
from surefoot.envs import AbstractFamily, Bandit, HalfCheetah, Navigation2D, Step
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.samplers import BatchedSampler, InProcess, ScanSampler, StreamSampler
from surefoot.types import Key, Rollout

KEY = jax.random.key(3)
CLOCK = Clock(horizon=4)
TASK = jnp.array(2.0)
POLICY = GaussianMLP(hidden=(3,)).build(jax.random.key(0), 1, CLOCK.action_space)
EPISODES = 40
FEW = ScanSampler(CLOCK, 3)
sample_few = eqx.filter_jit(FEW.sample)


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    """Episodes of the clock that terminate after 1 to 8 steps where the horizon is 4."""
    return ScanSampler(CLOCK, EPISODES).submit(POLICY, TASK, KEY).result()


def stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *xs: jnp.stack(xs) if eqx.is_array(xs[0]) else xs[0], *trees)


def test_every_episode_is_played_to_its_end(rollout: Rollout):
    lengths = np.asarray(rollout.valid).sum(axis=1)
    assert rollout.rewards.shape == (EPISODES, 4)
    assert set(lengths.tolist()) == {1, 2, 3, 4}
    np.testing.assert_array_equal(rollout.valid, np.arange(4) < lengths[:, None])


def test_an_episode_either_terminates_or_is_truncated_at_its_last_step(rollout: Rollout):
    last = np.arange(4) == np.asarray(rollout.valid).sum(axis=1)[:, None] - 1
    np.testing.assert_array_equal(rollout.terminated | rollout.truncated, last)
    assert not (rollout.terminated & rollout.truncated).any()
    assert not rollout.truncated[:, :3].any()
    # Among the episodes of full length some terminate there and some are cut short.
    assert rollout.terminated[:, 3].any()
    assert rollout.truncated[:, 3].any()


def test_observations_and_rewards_are_those_of_the_steps(rollout: Rollout):
    count = np.where(rollout.valid, np.arange(4.0), 0)
    np.testing.assert_array_equal(rollout.observations[..., 0], count)
    np.testing.assert_array_equal(rollout.rewards, np.where(rollout.valid, 2 * (count + 1), 0))


def test_the_next_observation_is_what_each_step_led_to(rollout: Rollout):
    following = np.where(rollout.valid, np.arange(1.0, 5.0), 0)
    np.testing.assert_array_equal(rollout.next_observations[..., 0], following)


def test_the_final_observation_is_what_followed_the_last_valid_step(rollout: Rollout):
    lengths = np.asarray(rollout.valid).sum(axis=1)
    assert rollout.final_observations.shape == (EPISODES, 1, 1)
    np.testing.assert_array_equal(rollout.final_observations[:, 0, 0], lengths)
    np.testing.assert_array_equal(rollout.final_times[:, 0], lengths)


def test_times_count_from_the_beginning_of_each_episode(rollout: Rollout):
    np.testing.assert_array_equal(rollout.times, np.where(rollout.valid, np.arange(4), 0))


def test_padding_is_zero(rollout: Rollout):
    fields = (rollout.observations, rollout.actions, rollout.log_probs, rollout.rewards, rollout.times)
    for field in (*fields, rollout.next_observations):
        assert not np.asarray(field)[~np.asarray(rollout.valid)].any()


def test_stored_log_probabilities_are_those_of_the_stored_actions(rollout: Rollout):
    expected = POLICY(rollout.observations).log_prob(rollout.actions)
    np.testing.assert_allclose(
        np.asarray(rollout.log_probs)[np.asarray(rollout.valid)],
        np.asarray(expected)[np.asarray(rollout.valid)],
        atol=1e-5,
    )


def test_actions_are_stored_as_drawn_though_the_environment_clips_them():
    env = Navigation2D(horizon=3)
    policy = GaussianMLP(hidden=(3,), initial_std=2.0).build(jax.random.key(0), 2, env.action_space)
    rollout = ScanSampler(env, 4).submit(policy, jnp.array([5.0, 5.0]), KEY).result()
    assert jnp.abs(rollout.actions).max() > 1.0
    moves = jnp.diff(rollout.observations, axis=1)
    np.testing.assert_allclose(moves, jnp.clip(rollout.actions[:, :-1], -0.1, 0.1), atol=1e-6)
    expected = policy(rollout.observations).log_prob(rollout.actions)
    np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-5)
    clipped = policy(rollout.observations).log_prob(jnp.clip(rollout.actions, -0.1, 0.1))
    assert jnp.abs(rollout.log_probs - clipped).max() > 0.1


def test_many_tasks_are_each_what_submitting_them_gives():
    build = GaussianMLP(hidden=(3,)).build
    policies = [build(jax.random.key(i), 1, CLOCK.action_space) for i in range(3)]
    tasks = jnp.array([1.0, 2.0, 3.0])
    together = sample_few(stack(policies), tasks, KEY)
    for i, policy in enumerate(policies):
        alone = FEW.submit(policy, tasks[i], jax.random.fold_in(KEY, i)).result()
        mine = jax.tree.map(lambda x, i=i: x[i], together)
        for got, expected in zip(jax.tree.leaves(mine), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_is_drawn_does_not_depend_on_how_many_episodes_or_tasks_there_are(rollout: Rollout):
    three = FEW.submit(POLICY, TASK, KEY).result()
    np.testing.assert_allclose(rollout.actions[:3], three.actions, atol=1e-6)
    np.testing.assert_array_equal(rollout.valid[:3], three.valid)
    tasks = jnp.array([1.0, 2.0, 3.0])
    few, many = (sample_few(stack([POLICY] * n), tasks[:n], KEY) for n in (2, 3))
    np.testing.assert_allclose(many.actions[:2], few.actions, atol=1e-6)
    np.testing.assert_array_equal(many.valid[:2], few.valid)


def test_episodes_steps_and_tasks_all_draw_different_noise(rollout: Rollout):
    sampler = ScanSampler(Bandit(arms=2, rewards="gaussian", horizon=3), 4)
    policy = CategoricalMLP(hidden=()).build(jax.random.key(0), 1, sampler.env.action_space)
    same_tasks = jnp.zeros((2, 2))
    rewards = eqx.filter_jit(sampler.sample)(stack([policy] * 2), same_tasks, KEY).rewards
    assert len(np.unique(rewards)) == rewards.size
    assert len(np.unique(rollout.actions[:, 0])) == rollout.actions[:, 0].size


def test_the_same_key_gives_the_same_rollout_and_another_key_another(rollout: Rollout):
    sampler = ScanSampler(CLOCK, EPISODES)
    assert identical(sampler.submit(POLICY, TASK, KEY).result(), rollout)
    other = sampler.submit(POLICY, TASK, jax.random.key(4)).result()
    assert not identical(other, rollout)


@dataclass(frozen=True)
class Broken(Clock):
    def step(self, key: Key, state: Any, action: Array, task: Array) -> Step:
        raise RuntimeError("the wheel came off")


def test_an_exception_travels_in_the_future():
    future = ScanSampler(Broken(), 2).submit(POLICY, TASK, KEY)
    assert isinstance(future, Future)
    assert future.done()
    with pytest.raises(RuntimeError, match="the wheel came off"):
        future.result()


@dataclass(frozen=True)
class Wrapper(AbstractFamily):
    """A family that passes everything on, and is no `AbstractEnv` itself."""

    wrapped: Any
    horizon = property(lambda self: self.wrapped.horizon)
    observation_space = property(lambda self: self.wrapped.observation_space)
    action_space = property(lambda self: self.wrapped.action_space)
    time_limit_ends_return = property(lambda self: self.wrapped.time_limit_ends_return)
    is_traceable = property(lambda self: self.wrapped.is_traceable)
    reset = property(lambda self: self.wrapped.reset)
    step = property(lambda self: self.wrapped.step)

    def sample_tasks(self, key: Key, n: int) -> Any:
        return self.wrapped.sample_tasks(key, n)

    def simulator(self, threads: int) -> Any:
        return self.wrapped.simulator(threads)


def test_a_wrapper_is_sampled_as_the_family_that_it_wraps():
    sampler = InProcess().of_episodes(Wrapper(CLOCK), 3)
    assert isinstance(sampler, ScanSampler)
    assert identical(sampler.submit(POLICY, TASK, KEY).result(), FEW.submit(POLICY, TASK, KEY).result())
    assert isinstance(InProcess().of_streams(Wrapper(CLOCK), 2, 3), StreamSampler)
    assert isinstance(InProcess().of_episodes(Wrapper(HalfCheetah()), 3), BatchedSampler)


def test_no_episodes_are_refused():
    with pytest.raises(UserError, match="episodes is 0; it must be 1 or more"):
        ScanSampler(CLOCK, 0)
