"""Trials, step by step by hand, and the same from the host."""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import assert_same
from support.wrappers import WrappedEnv, WrappedFamily
from surefoot.checks import check_env
from surefoot.envs import AbstractEnv, Bandit, Gymnasium, Navigation2D, Step, TabularMDP, Trial
from surefoot.envs.trial import episode_numbers
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.samplers import BatchedSampler, BatchedStreams, ScanSampler
from surefoot.types import Discrete

KEY = jax.random.key(3)


@dataclass(frozen=True)
class Countdown(AbstractEnv):
    """An episode ends with action 1, or at 3 steps. The reward is the task and the time together; the first
    observation is −1."""

    horizon = 3
    observation_space = 1
    action_space = Discrete(2)
    time_limit_ends_return = False

    def sample_tasks(self, key, n):
        return 10.0 * (1 + jnp.arange(n, dtype=float))

    def reset(self, key, task):
        return jnp.zeros((), jnp.int32), -jnp.ones(1)

    def step(self, key, state, action, task):
        time = state.astype(float)
        return Step(state + 1, time[None] + 1, task + time, action == 1)


TRIAL = Trial(Countdown(), episodes=3)
TRANSITIONS = replace(TRIAL, previous_observation=True)
ACTIONS = [0, 1, 0, 0, 0, 1]
"""Two steps and the end; three steps, to the horizon; one step and the end, of the trial too."""


@eqx.filter_jit
def played(actions: Any, trial: Trial = TRIAL) -> tuple[Any, Any]:
    """The first observation, and the outcomes of one action after another."""
    state, first = trial.reset(KEY, jnp.array(10.0))
    outcomes = []
    for i in range(len(actions)):
        outcomes.append(trial.step(KEY, state, actions[i], jnp.array(10.0)))
        state = outcomes[-1].state
    return first, outcomes


def test_what_it_is():
    assert (TRIAL.horizon, TRIAL.trial_episodes, TRIAL.action_space) == (9, 3, Discrete(2))
    assert TRIAL.time_limit_ends_return
    assert TRIAL.is_traceable
    assert not TRIAL.has_goals_on_a_plane
    assert Countdown().trial_episodes is None
    assert WrappedEnv(TRIAL).trial_episodes == 3  # pyright: ignore[reportArgumentType]


def test_the_last_reward_and_the_end_reach_the_first_step_of_the_next_episode():
    first, outcomes = played(jnp.array(ACTIONS, jnp.int32))
    seen = [first, *(outcome.observation for outcome in outcomes)]
    own, actions, rewards, ended = (
        np.array([np.asarray(each[name]) for each in seen])
        for name in ("observation", "previous_action", "previous_reward", "episode_ended")
    )
    # Where an episode ends, the observation is the next one's first; the trial's last is the episode's own.
    np.testing.assert_array_equal(own[:, 0], [-1, 1, -1, 1, 2, -1, 1])
    np.testing.assert_array_equal(rewards[:, 0], [0, 10, 11, 10, 11, 12, 10])
    np.testing.assert_array_equal(ended[:, 0], [0, 0, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(actions, [[0, 0], [1, 0], [0, 1], [1, 0], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal([o.reward for o in outcomes], [10, 11, 10, 11, 12, 10])


def test_the_observation_before_the_last_action_comes_on_request():
    first, outcomes = played(jnp.array(ACTIONS, jnp.int32), TRANSITIONS)
    seen = [first, *(outcome.observation for outcome in outcomes)]
    before = [float(each["previous_observation"][0]) for each in seen]
    # Nothing at first; then what was seen when the action was chosen, the first step of an episode included.
    assert before == [0, -1, 1, -1, 1, 2, -1]


def test_the_trial_ends_with_its_last_episode_and_not_before():
    _, outcomes = played(jnp.array(ACTIONS, jnp.int32))
    assert [bool(o.terminated) for o in outcomes] == [False] * 5 + [True]
    # Where every episode goes to its horizon, the trial does too: that is the sampler's to say.
    _, outcomes = played(jnp.zeros(9, jnp.int32))
    assert not any(bool(o.terminated) for o in outcomes)


def test_a_sampler_counts_a_trial_for_one_episode():
    policy = CategoricalMLP(hidden=(), output_scale=0.01).build(
        KEY, TRIAL.observation_space, TRIAL.action_space
    )
    rollout = ScanSampler(TRIAL, 30).submit(policy, jnp.array(10.0), KEY).result()
    numbers = np.asarray(episode_numbers(rollout.observations))
    lengths = np.asarray(rollout.valid).sum(axis=1)
    for i, length in enumerate(lengths):
        episode, time = 0, 0
        for t, action in enumerate(np.asarray(rollout.actions)[i, :length]):
            assert (numbers[i, t], rollout.rewards[i, t]) == (episode, 10 + time)
            over = action == 1 or time == 2
            episode, time = (episode + 1, 0) if over else (episode, time + 1)
        assert episode == 3
        assert numbers[i, length - 1] == 2
        assert rollout.terminated[i, length - 1] == (length < 9)
    assert len(set(lengths.tolist())) > 3


@pytest.mark.parametrize(
    "trial",
    [Trial(Bandit(), 3), Trial(TabularMDP(), 3), Trial(TabularMDP(), 3, previous_observation=True)],
    ids=["bandit", "tabular-mdp", "tabular-mdp-with-the-observation-before"],
)
def test_trials_of_the_library_keep_the_contract(trial: Trial):
    assert check_env(trial) == []


def test_a_trial_of_one_episode_is_that_episode():
    """For a policy that does not look at what the trial adds."""
    env = Navigation2D()
    trial = Trial(env, 1)
    policy: Any = GaussianMLP(hidden=()).build(KEY, env.observation_space, env.action_space)
    wide: Any = GaussianMLP(hidden=()).build(KEY, trial.observation_space, env.action_space)
    # Leaves come in the order of their names: the end, the family's observation, action and reward.
    weight = jnp.zeros_like(wide.network.weights[0]).at[1:3].set(policy.network.weights[0])
    wide = eqx.tree_at(lambda p: p.network.weights, wide, (weight,))
    task = env.sample_tasks(KEY, 1)[0]
    plain = ScanSampler(env, 4).submit(policy, task, KEY).result()
    rollout = ScanSampler(trial, 4).submit(wide, task, KEY).result()
    # To rounding: a policy of other shape is compiled to other instructions.
    np.testing.assert_allclose(rollout.rewards, plain.rewards, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rollout.observations["observation"], plain.observations, rtol=1e-4, atol=1e-5)
    assert_same(rollout.truncated, plain.truncated)


@pytest.mark.parametrize("trial", [TRIAL, TRANSITIONS], ids=["as-it-is", "with-the-observation-before"])
def test_from_the_host_it_is_the_same_trial(trial: Trial):
    """A family that does not say that it is traceable is stepped by its simulator. Countdown's steps follow
    from the actions alone, so that the keys do not matter."""
    host = replace(trial, env=WrappedFamily(Countdown()))
    assert not host.is_traceable
    policy = CategoricalMLP(hidden=(), output_scale=0.01).build(
        KEY, trial.observation_space, trial.action_space
    )
    tasks = Countdown().sample_tasks(KEY, 2)
    policies = jax.tree.map(lambda x: jnp.stack([x, x]) if eqx.is_array(x) else x, policy)
    expected = ScanSampler(trial, 10).sample(policies, tasks, KEY)
    sampler = BatchedSampler(host, 10, 1)
    rollout = sampler.sample(policies, tasks, KEY)
    sampler.close()
    assert_same(rollout.valid, expected.valid)
    valid = np.asarray(expected.valid)
    for got, wanted in zip(jax.tree.leaves(rollout), jax.tree.leaves(expected), strict=True):
        is_of_steps = wanted.shape[:3] == valid.shape  # final observations are not
        one, other = (np.asarray(x)[valid] if is_of_steps else np.asarray(x) for x in (got, wanted))
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_episodes_of_a_trial_from_the_host_are_drawn_anew():
    """Rewards of a bandit follow from the keys: no episode repeats another, and all follow from the seed."""
    family = WrappedFamily(Bandit(arms=2, rewards="gaussian", horizon=2))
    simulator = Trial(family, 4).simulator(1)
    means = np.zeros((3, 2), np.float32)
    keys = np.asarray(jax.random.key_data(jax.random.split(KEY, 3)))

    def rewards() -> np.ndarray:
        simulator.begin(keys, means)
        rows, actions = np.arange(3), np.zeros(3, np.int32)
        return np.stack([simulator.step(rows, actions).rewards for _ in range(8)])

    first = rewards()
    assert len(np.unique(first)) == first.size
    np.testing.assert_array_equal(rewards(), first)


def test_its_actions_are_clipped_as_its_episodes_are():
    env = Gymnasium("Pendulum-v1", actions="clipped")
    bounds = env.clipping_bounds
    assert bounds is not None
    found = Trial(env).clipping_bounds
    assert found is not None
    np.testing.assert_array_equal(found, bounds)
    assert Trial(Bandit()).clipping_bounds is None


def test_streams_of_trials_from_the_host_are_refused():
    streams = BatchedStreams(Trial(WrappedFamily(Countdown()), 2), 2, 4, 1)
    policy = CategoricalMLP(hidden=(), output_scale=0.01).build(
        KEY, TRIAL.observation_space, TRIAL.action_space
    )
    with pytest.raises(UserError, match="--streams 0"):
        streams.start(policy, jnp.array(1.0), KEY)


def test_a_trial_needs_an_episode():
    with pytest.raises(UserError, match="1 or more"):
        Trial(Countdown(), 0)
