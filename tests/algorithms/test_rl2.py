"""RL² on bandits small enough to know the best that can be learned."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.settings import iterate, train
from surefoot.algorithms import MAML, RL2, Estimation, MemoryAdapter, Setting, adapt_to_tasks
from surefoot.algorithms.reporting import describe_trials
from surefoot.algorithms.rl2 import episode_of_trials
from surefoot.baselines import TimeDependent
from surefoot.envs import Bandit, Recall, Trial
from surefoot.experiment import Config, Evaluation, Learner, evaluate
from surefoot.experiment.evaluation import default_evaluation
from surefoot.options import UserError
from surefoot.policies import (
    GRU,
    AttentionActorCritic,
    CategoricalMLP,
    HypernetworkActorCritic,
    RecurrentActorCritic,
    initial_memory,
)
from surefoot.rules import PPOClip, TrustRegion
from surefoot.samplers import ScanSampler, StreamSampler
from surefoot.types import Batch, Discrete

KEY = jax.random.key(4)
TRIAL = Trial(Bandit(arms=2, horizon=1), episodes=2)
ESTIMATION = Estimation(TimeDependent(), discount=1.0, fit="previous-batch")
SETTING = Setting.of(ScanSampler(TRIAL, 1), ESTIMATION)
PPO = PPOClip(lr=0.02, epochs=8, minibatches=2)
POLICY: Any = GRU(units=8).build(KEY, TRIAL.observation_space, TRIAL.action_space)
BEST, RANDOM = 0.5 + 7 / 12, 1.0
"""Total reward of two pulls of two arms with means from U[0, 1]. The first is worth 1/2. The best second pull
repeats the arm after a 1, with the mean 2/3 of Beta(2, 1), and takes the other one, with the mean 1/2, after
a 0: ½ · 2/3 + ½ · 1/2 = 7/12."""


def two_step_value(env_key: jax.Array) -> float:
    """The best second pull's mean reward, by brute force over the four deterministic ways to choose it."""
    means = jax.random.uniform(env_key, (200_000, 2))
    first, other = means[:, 0], means[:, 1]
    values = [
        jnp.mean(first * (first if after_one else other) + (1 - first) * (first if after_zero else other))
        for after_one in (True, False)
        for after_zero in (True, False)
    ]
    return float(max(values))


def test_the_best_total_reward_is_what_brute_force_finds():
    assert abs(0.5 + two_step_value(KEY) - BEST) < 3e-3


@pytest.mark.parametrize(
    ("rule", "options", "iterations"),
    [
        (TrustRegion(max_kl=0.05), GRU(units=8), 20),
        (PPO, RecurrentActorCritic(units=8), 40),
        (PPO, HypernetworkActorCritic(units=8, hidden=(4,)), 40),
    ],
    ids=["trpo", "ppo", "hypernetwork"],
)
def test_it_learns_to_explore_and_to_remember(rule: Any, options: Any, iterations: int):
    """From two random pulls to win-stay, lose-shift."""
    policy = options.build(KEY, TRIAL.observation_space, TRIAL.action_space)
    state, seen = train(RL2(rule=rule, tasks=1000), SETTING, policy, iterations=iterations)
    assert abs(seen[0]["return"] - RANDOM) < 0.08
    adapter = RL2(rule=rule).adapter(SETTING.estimator, state)
    tasks = TRIAL.sample_tasks(jax.random.key(9), 4000)
    rollouts = adapt_to_tasks(SETTING.sampler, adapter, state.policy, tasks, KEY, 1).rollouts
    before, after = (float(jnp.mean(r.rewards)) for r in rollouts)
    assert abs(before - 0.5) < 0.03
    assert abs(after - (BEST - 0.5)) < 0.03


def test_every_trial_of_every_batch_has_a_task_of_its_own():
    """Two batches, whose trials are those that a sampler gives for the tasks of each."""
    state = RL2(tasks=6).init(SETTING, POLICY, KEY)
    drawn = [TRIAL.sample_tasks(jax.random.split(key)[0], 6) for key in jax.random.split(KEY, 2)]
    assert len(np.unique(np.concatenate(drawn)[:, 0])) == 12
    rollout = eqx.filter_jit(RL2(tasks=6).sample)(SETTING, state, jax.random.split(KEY, 2)[0])[1]
    assert rollout.rewards.shape == (6, 2)
    # Each trial's rewards are those that its own task gives with the sampler's key.
    sample_key = jax.random.split(jax.random.split(KEY, 2)[0])[1]
    for i in range(6):
        key = jax.random.fold_in(sample_key, i)
        alone = SETTING.sampler.submit(POLICY, drawn[0][i], key).result()  # pyright: ignore
        np.testing.assert_array_equal(alone.rewards[0], rollout.rewards[i])
        np.testing.assert_array_equal(alone.actions[0], rollout.actions[i])


@pytest.mark.parametrize(
    "options",
    [GRU(units=4, output_scale=1.0), AttentionActorCritic(8, heads=2, layers=1, length=6, output_scale=3.0)],
    ids=["gru", "attention"],
)
def test_the_memory_lives_through_a_trial_and_no_longer(options: Any):
    """The log-probabilities of a trial are those of the policy unrolled over all of it, from its first
    memory."""
    env = Trial(Bandit(arms=3, horizon=2), episodes=3)
    policy: Any = options.build(KEY, env.observation_space, env.action_space)
    rollout = ScanSampler(env, 5).submit(policy, jnp.array([0.2, 0.5, 0.9]), KEY).result()
    whole = eqx.filter_jit(policy)(rollout.observations).log_prob(rollout.actions)
    np.testing.assert_allclose(rollout.log_probs, whole, atol=1e-5)
    for k in range(3):
        part = episode_of_trials(rollout, k, 3)
        forgetful = eqx.filter_jit(policy)(part.observations).log_prob(part.actions)
        same = np.allclose(forgetful, whole[:, 2 * k : 2 * k + 2], atol=1e-4)
        assert same == (k == 0)


def test_advantages_run_on_from_one_episode_to_the_next():
    """The first pull is credited with the second one's reward, as far as γλ says."""
    estimation = replace(ESTIMATION, discount=0.9, gae_lambda=0.5, normalise=False)
    setting = Setting.of(ScanSampler(TRIAL, 1), estimation)
    state = RL2(tasks=8).init(setting, POLICY, KEY)
    _, rollout = RL2(tasks=8).sample(setting, state, KEY)
    batch = setting.estimator.batch(setting.estimator.prepare(rollout, state.scales), state.baselines[0])
    # The baseline is zero before its first fit.
    rewards = np.asarray(rollout.rewards)
    np.testing.assert_allclose(batch.advantages[:, 0], rewards[:, 0] + 0.45 * rewards[:, 1], atol=1e-6)


def test_episodes_of_trials_by_hand():
    """Episodes of two steps where there may be three: the trial has four of six steps."""
    env = Trial(Recall(delay=0), episodes=2)
    policy: Any = CategoricalMLP(hidden=()).build(KEY, env.observation_space, env.action_space)
    rollout = ScanSampler(env, 4).submit(policy, env.sample_tasks(KEY, 1)[0], KEY).result()
    for k in range(2):
        part = episode_of_trials(rollout, k, 2)
        np.testing.assert_array_equal(part.valid, [[True, True, False]] * 4)
        np.testing.assert_array_equal(part.terminated, [[False, True, False]] * 4)
        np.testing.assert_array_equal(part.times, [[0, 1, 0]] * 4)
        assert not part.truncated.any()
        np.testing.assert_array_equal(part.rewards[:, :2], rollout.rewards[:, 2 * k : 2 * k + 2])
        np.testing.assert_array_equal(part.rewards[:, 2], 0)
        np.testing.assert_array_equal(
            part.observations["previous_reward"][:, :2],
            rollout.observations["previous_reward"][:, 2 * k : 2 * k + 2],
        )
    told = describe_trials(rollout, 2)
    np.testing.assert_allclose(told["return_before"], rollout.rewards[:, :2].sum() / 4)
    np.testing.assert_allclose(told["return_after"], rollout.rewards[:, 2:].sum() / 4)


def test_a_step_of_adaptation_is_an_episode_of_the_trial():
    adapter = MemoryAdapter(1, SETTING.estimator.init(KEY, TRIAL)[1], SETTING.estimator)
    tasks = TRIAL.sample_tasks(KEY, 3)
    adaptation = adapt_to_tasks(SETTING.sampler, adapter, POLICY, tasks, KEY, 1)
    trials = SETTING.sampler.sample(  # pyright: ignore[reportAttributeAccessIssue]
        jax.tree.map(lambda x: jnp.stack([x] * 3) if eqx.is_array(x) else x, POLICY),
        tasks,
        jax.random.fold_in(KEY, 0),
    )
    rewards = np.concatenate([r.rewards for r in adaptation.rollouts], axis=-1)
    np.testing.assert_array_equal(rewards, trials.rewards)
    # After a step the memory is that of the policy that has seen the first episode.
    seen = jax.tree.map(lambda x: x[:, 0, 0], trials.observations)
    memory = jnp.broadcast_to(initial_memory(POLICY), (3, 8))
    expected = POLICY.act(seen, memory)[1]
    np.testing.assert_allclose(adaptation.learners[1][1], expected, atol=1e-6)
    first = jax.tree.map(lambda x: x[0], adaptation.learners[1])
    np.testing.assert_allclose(initial_memory(adapter.acting(first)), expected[0], atol=1e-6)


def test_the_memory_stands_still_after_the_end_of_an_episode():
    """An episode of two steps where there may be three: the padding is not remembered."""
    policy: Any = GRU(units=4).build(KEY, 2, Discrete(2))
    adapter = MemoryAdapter(1, SETTING.estimator.init(KEY, TRIAL)[1], SETTING.estimator)
    observations, zeros = jax.random.normal(KEY, (1, 3, 2)), jnp.zeros((1, 3))
    episode = Batch(observations, zeros.astype(int), zeros, zeros, jnp.array([[True, True, False]]))
    _, memory = adapter.improve(adapter.begin(policy), episode)
    expected = initial_memory(policy)
    for t in range(2):
        _, expected = policy.act(observations[0, t], expected)
    np.testing.assert_allclose(memory, expected, atol=1e-6)


CONFIG = Config(
    env=TRIAL,
    policy=GRU(units=4),
    algorithm=RL2(tasks=4),
    estimation=ESTIMATION,
    evaluation=Evaluation(tasks=5, episodes=3, steps=9),
    episodes=1,
)


def test_evaluation_has_a_row_for_each_episode_of_the_trial():
    """Those of a trial are one another's: steps and returns add up, and the mode is a trial of its own."""
    learner = Learner(CONFIG)
    assert default_evaluation(CONFIG).steps == 1
    by_gradient = replace(CONFIG, algorithm=MAML(inner_steps=3), evaluation=Evaluation(3, 4, 3))
    assert default_evaluation(by_gradient).steps == 3, "it adapts to whole trials, one after another"
    result = learner.evaluate()
    assert result.episode_returns.shape == (2, 5, 3)
    mode = learner.evaluate(deterministic=True)
    actions = np.stack([r.actions for r in mode.rollouts])
    # In the first episode the same action in all trials: the policy has seen nothing yet.
    assert len(np.unique(actions[0])) == 1
    with pytest.raises(UserError, match=r"trial of 2 episodes there are 1 steps .* 2 are asked for"):
        learner.evaluate(steps=2)


def test_the_adapted_policy_remembers_its_trial():
    learner = Learner(CONFIG)
    adapted: Any = learner.adapt(jnp.array([0.1, 0.9]), steps=1)
    assert adapted.is_recurrent
    assert float(jnp.abs(adapted.initial_memory()).max()) > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="--env trial"):
        RL2().init(Setting.of(ScanSampler(Bandit(), 1), ESTIMATION), POLICY, KEY)
    with pytest.raises(UserError, match="--streams 0"):
        RL2().init(Setting.of(StreamSampler(TRIAL, 2, 2), ESTIMATION), POLICY, KEY)
    forgetful = CategoricalMLP().build(KEY, TRIAL.observation_space, TRIAL.action_space)
    with pytest.raises(UserError, match="--policy gru"):
        RL2().init(SETTING, forgetful, KEY)
    judging = RecurrentActorCritic().build(KEY, TRIAL.observation_space, TRIAL.action_space)
    with pytest.raises(UserError, match="blind to an actor-critic"):
        RL2(rule=TrustRegion()).init(SETTING, judging, KEY)
    learner = Learner(CONFIG)
    with pytest.raises(UserError, match="leave out --inner"):
        evaluate(CONFIG, learner.state.learner, 0, inner=TrustRegion())


def test_an_iteration_reports_the_trials():
    state = RL2(tasks=4).init(SETTING, POLICY, KEY)
    _, metrics = iterate(RL2(tasks=4), SETTING, state, KEY)
    assert float(metrics["steps"]) == 8
    total = metrics["return_before"] + metrics["return_after"]
    np.testing.assert_allclose(metrics["return"], total, atol=1e-6)
