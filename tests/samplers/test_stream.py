from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical
from support.probes import Clock
from surefoot.envs import DelayedReward
from surefoot.options import UserError
from surefoot.policies import GRU, CategoricalMLP, GaussianMLP
from surefoot.samplers import AbstractSampler, StreamSampler
from surefoot.samplers.base import StreamState
from surefoot.types import Rollout, image

KEY = jax.random.key(3)
CLOCK = Clock(horizon=4)
TASK = jnp.array(2.0)
POLICY = GaussianMLP(hidden=(3,)).build(jax.random.key(0), 1, CLOCK.action_space)
SAMPLER = StreamSampler(CLOCK, streams=20, steps=15)


@eqx.filter_jit
def start(sampler: StreamSampler, *arguments: Any) -> StreamState:
    return sampler.start(*arguments)


@eqx.filter_jit
def collect(sampler: StreamSampler, *arguments: Any) -> tuple[StreamState, Rollout]:
    return sampler.collect(*arguments)


def sample(sampler: StreamSampler, policy: Any, task: Any, key: Any, batches: int) -> tuple[list, list]:
    """The states before, between and after the batches, and the batches."""
    states, rollouts = [start(sampler, policy, task, key)], []
    for k in range(batches):
        state, rollout = collect(sampler, policy, task, states[-1], jax.random.fold_in(key, k))
        states.append(state)
        rollouts.append(rollout)
    return states, rollouts


@pytest.fixture(scope="module")
def played() -> tuple[list, list[Rollout]]:
    """Two batches of the clock, whose episodes end after 1 to 8 steps where the limit is 4."""
    return sample(SAMPLER, POLICY, TASK, KEY, 2)


@pytest.fixture(scope="module")
def rollout(played: tuple[list, list[Rollout]]) -> Rollout:
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *played[1])


def test_every_batch_has_a_fixed_number_of_steps_all_of_them_valid(played: tuple[list, list[Rollout]]):
    for rollout in played[1]:
        assert rollout.rewards.shape == (20, 15)
        assert rollout.valid.all()


def test_episodes_follow_one_another_within_a_row(rollout: Rollout):
    ended = rollout.terminated | rollout.truncated
    assert not (rollout.terminated & rollout.truncated).any()
    np.testing.assert_array_equal(rollout.times[:, 0], 0)
    expected = np.where(ended, 0, rollout.times + 1)[:, :-1]
    np.testing.assert_array_equal(rollout.times[:, 1:], expected)
    assert (ended.sum(axis=1) > 5).all()
    # Of full length some terminate and some are cut short, and only those.
    assert (rollout.times[rollout.truncated] == 3).all()
    assert (rollout.times <= 3).all()
    assert (rollout.terminated & (rollout.times == 3)).any()
    assert {int(t) for t in rollout.times[rollout.terminated]} == {0, 1, 2, 3}


def test_each_episode_has_an_end_of_its_own(rollout: Rollout):
    """The clock draws it at the reset: half of its episodes are cut short, an eighth last one step."""
    ended = rollout.terminated | rollout.truncated
    assert abs(rollout.truncated.sum() / ended.sum() - 1 / 2) < 0.15
    assert abs((ended & (rollout.times == 0)).sum() / ended.sum() - 1 / 8) < 0.1


def test_observations_and_rewards_are_those_of_the_steps(rollout: Rollout):
    np.testing.assert_array_equal(rollout.observations[..., 0], rollout.times)
    np.testing.assert_array_equal(rollout.rewards, 2 * (rollout.times + 1))


def test_next_observations_are_what_was_seen_before_any_reset(played: tuple[list, list[Rollout]]):
    """But for those after the end: their value is zero, and they are not kept."""
    for rollout in played[1]:
        on = ~np.asarray(rollout.terminated)
        np.testing.assert_array_equal(rollout.next_observations[..., 0][on], (rollout.times + 1)[on])


def test_final_observations_are_those_after_truncated_steps_and_the_last(played: tuple[list, list[Rollout]]):
    _, rollout = played[1]
    assert (rollout.truncated.sum(axis=1) > 1).any()
    for row in range(len(rollout.valid)):
        final = np.flatnonzero(rollout.truncated[row])
        final = np.union1d(final, [rollout.valid.shape[1] - 1])
        expected = rollout.times[row, final] + 1
        np.testing.assert_array_equal(rollout.final_observations[row, : len(final), 0], expected)
        np.testing.assert_array_equal(rollout.final_times[row, : len(final)], expected)


def test_log_probabilities_are_those_of_the_actions(rollout: Rollout):
    expected = POLICY(jnp.array(rollout.observations)).log_prob(jnp.array(rollout.actions))
    np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-5)


def test_a_batch_goes_on_where_the_last_one_stopped(played: tuple[list, list[Rollout]]):
    (_, between, _), (first, second) = played
    ended = first.terminated[:, -1] | first.truncated[:, -1]
    np.testing.assert_array_equal(second.observations[:, 0], between.observations)
    np.testing.assert_array_equal(second.times[:, 0], between.times)
    expected = np.where(ended, 0.0, first.next_observations[:, -1, 0])
    np.testing.assert_array_equal(second.observations[:, 0, 0], expected)
    np.testing.assert_array_equal(second.times[:, 0], np.where(ended, 0, first.times[:, -1] + 1))
    assert ended.any()
    assert not ended.all()


@dataclass(frozen=True)
class PicturedClock(Clock):
    """Its observation is a picture of one pixel, a whole number."""

    @property
    def observation_space(self) -> Any:
        return image(1, 1, 1, np.int16)

    def reset(self, key: Any, task: Any) -> Any:
        state, observation = super().reset(key, task)
        return state, observation.reshape(1, 1, 1).astype(np.int16)

    def step(self, key: Any, state: Any, action: Any, task: Any) -> Any:
        step = super().step(key, state, action, task)
        return replace(step, observation=step.observation.reshape(1, 1, 1).astype(np.int16))


def test_final_observations_are_of_the_type_of_the_others():
    """Networks divide whole numbers by 255, and real numbers not."""
    env = PicturedClock(horizon=4)
    policy = GaussianMLP(hidden=(3,)).build(jax.random.key(0), env.observation_space, env.action_space)
    (rollout,) = sample(StreamSampler(env, streams=2, steps=5), policy, TASK, KEY, 1)[1]
    assert rollout.observations.dtype == rollout.final_observations.dtype == np.int16


def test_two_batches_are_one_twice_as_long_where_nothing_is_random():
    env = DelayedReward(3)
    policy = CategoricalMLP(hidden=()).build(jax.random.key(0), 3, env.action_space)
    certain = eqx.tree_at(lambda p: p.network.biases[0], policy, jnp.array([200.0, -200.0]))
    task = jnp.zeros(0)
    _, parts = sample(StreamSampler(env, streams=2, steps=4), certain, task, KEY, 2)
    _, (whole,) = sample(StreamSampler(env, streams=2, steps=8), certain, task, KEY, 1)
    fields = [
        (replace(rollout, final_observations=None), rollout.next_observations) for rollout in (*parts, whole)
    ]
    first, second, (expected, led_to) = fields
    together, following = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), first, second)
    assert identical(together, expected)
    assert identical(following[~whole.terminated], led_to[~whole.terminated])
    np.testing.assert_array_equal(whole.rewards[0], [0, 0, 1, 0, 0, 1, 0, 0])


@pytest.fixture(scope="module")
def remembered() -> tuple[Any, list[Rollout]]:
    policy = GRU(units=4, output_scale=1.0).build(jax.random.key(0), 1, CLOCK.action_space)
    return policy, sample(replace(SAMPLER, streams=5), policy, TASK, KEY, 2)[1]


def test_a_recurrent_policy_forgets_at_the_end_of_an_episode_and_nowhere_else(
    remembered: tuple[Any, list[Rollout]],
):
    policy, rollouts = remembered
    for rollout in rollouts:
        distribution = eqx.filter_jit(policy.unroll)(rollout.observations, rollout.times == 0, rollout.memory)
        np.testing.assert_allclose(distribution.log_prob(rollout.actions), rollout.log_probs, atol=1e-5)
        never = eqx.filter_jit(policy.unroll)(
            rollout.observations, jnp.zeros_like(rollout.valid), rollout.memory
        )
        assert jnp.abs(never.log_prob(rollout.actions) - rollout.log_probs).max() > 1e-3


def test_a_batch_says_what_a_recurrent_policy_remembered_when_it_began(remembered: tuple[Any, list[Rollout]]):
    _, (first, second) = remembered
    np.testing.assert_array_equal(first.memory, jnp.zeros((5, 4)))
    ended = first.terminated[:, -1] | first.truncated[:, -1]
    np.testing.assert_array_equal(jnp.any(second.memory != 0, axis=1), ~ended)
    assert ended.any()
    assert not ended.all()


def test_a_policy_without_memory_leaves_none(played: tuple[list, list[Rollout]]):
    assert all(rollout.memory is None for rollout in played[1])


def test_a_stream_begins_alike_whatever_streams_there_are_beside_it():
    few, many = (start(StreamSampler(CLOCK, streams=n, steps=1), POLICY, TASK, KEY) for n in (2, 7))
    assert identical(few, jax.tree.map(lambda x: x[:2], many))
    assert len(np.unique(many.env_state[1])) > 2


def test_streams_and_steps_all_draw_different_noise(rollout: Rollout):
    assert len(np.unique(rollout.actions)) > 0.999 * rollout.actions.size


def test_the_same_key_gives_the_same_batches_and_another_key_others(played: tuple[list, list[Rollout]]):
    assert identical(sample(SAMPLER, POLICY, TASK, KEY, 2), played)
    assert not identical(sample(SAMPLER, POLICY, TASK, jax.random.key(4), 2), played)


@dataclass(frozen=True)
class Fixed(Clock):
    """A clock that ends when it is cut short, and not before."""

    def reset(self, key: Any, task: Any) -> tuple[Any, Any]:
        del key, task
        return (jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)), jnp.zeros(1)


def test_an_episode_longer_than_a_batch_goes_on_over_several():
    sampler = StreamSampler(Fixed(horizon=5), streams=1, steps=2)
    _, rollouts = sample(sampler, POLICY, TASK, KEY, 4)
    times = np.concatenate([rollout.times[0] for rollout in rollouts])
    np.testing.assert_array_equal(times, [0, 1, 2, 3, 4, 0, 1, 2])
    truncated = np.concatenate([rollout.truncated[0] for rollout in rollouts])
    np.testing.assert_array_equal(np.flatnonzero(truncated), [4])


def test_it_does_not_pass_for_a_sampler_of_whole_episodes():
    assert not isinstance(SAMPLER, AbstractSampler)


@pytest.mark.parametrize("option", ["streams", "steps"])
def test_wrong_options_are_refused(option: str):
    with pytest.raises(UserError, match=f"{option} is 0; it must be 1 or more"):
        StreamSampler(CLOCK, **{"streams": 1, "steps": 1, option: 0})
