from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical
from support.on_policy import prepared_batch
from support.probes import Clock, Target
from support.settings import iterate, policy_for, setting_of, train
from surefoot.algorithms import (
    MAML,
    GradientAdapter,
    Normalisation,
    Setting,
    SingleTask,
    adapt_to_tasks,
    policy_objective,
)
from surefoot.options import UserError
from surefoot.policies import NormalisedPolicy
from surefoot.rules import GradientStep, TrustRegion
from surefoot.samplers import StreamSampler
from surefoot.types import Rollout

BOTH = Normalisation(observations=True, rewards=True)
DISCOUNT = 0.9
STILL = SingleTask(rule=GradientStep(lr=0.0))
LEARNING = SingleTask(rule=TrustRegion(max_kl=0.05, cg_iterations=2, max_backtracks=3))
KEY = jax.random.key(5)


def normalised(setting: Setting, normalisation: Normalisation) -> Setting:
    return replace(setting, estimator=replace(setting.estimator, normalisation=normalisation))


def clock(normalisation: Normalisation = BOTH, *, streams: bool = False, **options: Any) -> Setting:
    """Observations 0, 1, 2, … and rewards 1, 2, 3, … times the task."""
    setting = normalised(setting_of(Clock(), discount=DISCOUNT, **options), normalisation)
    return replace(setting, sampler=StreamSampler(Clock(), 8, 6)) if streams else setting


def policy_of(setting: Setting) -> Any:
    return policy_for(setting, hidden=(3,), output_scale=1.0)


@eqx.filter_jit
def sampled(setting: Setting, state: Any, key: Any) -> Rollout:
    """What the next iteration will sample, in the environment's own scale."""
    acting = setting.estimator.normalisation.policy(state.policy, state.scales)
    task = jax.tree.map(lambda x: x[0], state.own.task)
    return setting.sampler.collect(acting, task, state.own.sampler, key)[1]


prepared = eqx.filter_jit(prepared_batch)


def rewards_to_go(rollout: Rollout) -> list[float]:
    """Of the valid steps, step by step, as far as they were seen."""
    found = []
    for row in range(len(rollout.valid)):
        total = 0.0
        for t in reversed(range(rollout.valid.shape[1])):
            if not rollout.valid[row, t]:
                continue
            ended = bool(rollout.terminated[row, t] | rollout.truncated[row, t])
            total = float(rollout.rewards[row, t]) + (0.0 if ended else DISCOUNT * total)
            found.append(total)
    return found


def test_the_first_rewards_after_none_are_not_scaled():
    """A sparse task: the deviation of returns that are all zero is no scale."""
    setting = clock()
    state, _ = train(STILL, setting, policy_of(setting), iterations=1)
    rollout = sampled(setting, state, KEY)
    nothing = eqx.tree_at(lambda r: r.rewards, rollout, jnp.zeros_like(rollout.rewards))
    scales = BOTH.update(BOTH.init(setting.sampler.env.observation_space), nothing, DISCOUNT)
    np.testing.assert_array_equal(BOTH.rollout(rollout, scales).rewards, rollout.rewards)


@pytest.mark.parametrize("streams", [False, True], ids=["episodes", "streams"])
def test_statistics_are_those_of_everything_that_was_ever_sampled(streams: bool):
    setting = clock(streams=streams)
    state = STILL.init(setting, policy_of(setting), KEY)
    observations: list[float] = []
    returns: list[float] = []
    for i in range(3):
        key = jax.random.fold_in(KEY, i)
        rollout = sampled(setting, state, key)
        state, _ = iterate(STILL, setting, state, key)
        observations += np.asarray(rollout.observations)[np.asarray(rollout.valid)][:, 0].tolist()
        returns += rewards_to_go(rollout)
        for found, seen in ((state.scales.observations, observations), (state.scales.returns, returns)):
            assert found.count == len(seen)
            np.testing.assert_allclose(found.mean, [np.mean(seen)], rtol=1e-5)
            np.testing.assert_allclose(found.variance, [np.var(seen)], rtol=1e-4)


@pytest.mark.parametrize("streams", [False, True], ids=["episodes", "streams"])
def test_within_an_iteration_they_are_frozen(streams: bool):
    """Data is drawn, judged and learned from in one scale: every likelihood ratio is one before the step."""
    setting = clock(streams=streams)
    state, _ = train(LEARNING, setting, policy_of(setting), iterations=2)
    batch = prepared(setting, state, KEY).batch
    log_probs = state.policy(batch.observations).log_prob(batch.actions)
    valid = np.asarray(batch.valid)
    np.testing.assert_allclose(np.asarray(log_probs)[valid], np.asarray(batch.log_probs)[valid], atol=1e-5)
    # In the scale of the iteration after it, they would not be.
    following = prepared(setting, state, KEY).state.scales
    seen = NormalisedPolicy(state.policy, following.observations, setting.estimator.normalisation.limit)
    raw = sampled(setting, state, KEY)
    other = seen(raw.observations).log_prob(raw.actions)
    assert np.abs(np.asarray(other - batch.log_probs)[valid]).max() > 1e-3


def test_the_batch_is_in_the_scale_of_all_iterations_before():
    setting = clock()
    state, _ = train(STILL, setting, policy_of(setting), iterations=2)
    raw, batch = sampled(setting, state, KEY), prepared(setting, state, KEY).batch
    valid = np.asarray(raw.valid)
    of_observations, of_returns = state.scales.observations, state.scales.returns
    expected = (np.asarray(raw.observations) - of_observations.mean) / np.sqrt(of_observations.variance)
    np.testing.assert_allclose(np.asarray(batch.observations)[valid], expected[valid], rtol=1e-4, atol=1e-5)
    following = (np.asarray(raw.next_observations) - of_observations.mean) / np.sqrt(of_observations.variance)
    np.testing.assert_allclose(
        np.asarray(batch.transitions.next_observations)[valid], following[valid], rtol=1e-4, atol=1e-5
    )
    # Rewards are divided and not moved.
    scaled = np.asarray(raw.rewards) / np.sqrt(of_returns.variance)
    np.testing.assert_allclose(np.asarray(batch.transitions.rewards)[valid], scaled[valid], rtol=1e-4)
    assert np.sqrt(of_returns.variance[0]) > 1.5
    np.testing.assert_array_equal(batch.actions, np.where(valid[..., None], raw.actions, 0.0))


def test_before_anything_is_known_nothing_is_scaled():
    plain, setting = clock(Normalisation()), clock()
    first, second = (prepared(s, STILL.init(s, policy_of(s), KEY), KEY).batch for s in (plain, setting))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("streams", [False, True], ids=["episodes", "streams"])
def test_returns_in_the_metrics_are_those_of_the_environment(streams: bool):
    """The clock does as it does whatever the policy: scaled or not, the same returns are seen."""
    plain, scaled = (
        train(LEARNING, s, policy_of(s), iterations=3)[1]
        for s in (clock(Normalisation(), streams=streams), clock(streams=streams))
    )
    assert [m["return"] for m in scaled] == [m["return"] for m in plain]
    assert [m["episode_length"] for m in scaled] == [m["episode_length"] for m in plain]
    assert plain[0]["return"] > 1.0


def test_only_what_is_asked_for_is_normalised():
    for normalisation in (Normalisation(observations=True), Normalisation(rewards=True), Normalisation()):
        setting = clock(normalisation)
        state = STILL.init(setting, policy_of(setting), KEY)
        assert (state.scales.observations is not None) == normalisation.observations
        assert (state.scales.returns is not None) == normalisation.rewards
    assert setting.estimator.normalisation.policy(state.policy, state.scales) is state.policy


def test_observations_are_clipped_to_the_limit():
    setting = clock(replace(BOTH, limit=0.5))
    state, _ = train(STILL, setting, policy_of(setting), iterations=1)
    batch = prepared(setting, state, KEY).batch
    assert jnp.abs(batch.observations).max() == 0.5


def test_adapting_and_evaluating_leave_the_statistics_alone():
    """The policy sees, at evaluation too, in the scale of training; what it sees changes nothing."""
    setting = clock()
    state, _ = train(LEARNING, setting, policy_of(setting), iterations=2)
    before = jax.tree.map(jnp.copy, state.scales)
    tasks = LEARNING.evaluation_tasks(setting.sampler.env, state, KEY, 2)
    adapter = GradientAdapter.of(
        setting.estimator, state, GradientStep(lr=0.0), policy_objective("reinforce"), 1
    )
    adaptation = eqx.filter_jit(adapt_to_tasks)(setting.sampler, adapter, state.policy, tasks, KEY, 1)
    assert identical(state.scales, before)
    acting = setting.estimator.normalisation.policy(state.policy, before)
    for rollout, batch in zip(adaptation.rollouts, adaptation.batches, strict=True):
        valid = np.asarray(rollout.valid)
        log_probs = acting(rollout.observations).log_prob(rollout.actions)
        np.testing.assert_allclose(
            np.asarray(log_probs)[valid], np.asarray(rollout.log_probs)[valid], atol=1e-5
        )
        # As sampled in one, as seen in the other.
        np.testing.assert_array_equal(rollout.observations[..., 0], np.where(valid, rollout.times, 0))
        assert np.asarray(batch.observations)[valid].min() < -0.5


def test_a_meta_learner_merges_the_statistics_of_all_tasks_and_phases():
    setting = clock()
    algorithm = MAML(GradientStep(lr=0.1), GradientStep(lr=0.1), tasks=3)
    state = algorithm.init(setting, policy_of(setting), KEY)
    new, metrics = iterate(algorithm, setting, state, KEY)
    # 3 tasks and 2 phases of 8 episodes, each of 1 to 4 steps.
    assert 48 < metrics["steps"] <= 192
    assert new.scales.observations.count == new.scales.returns.count == metrics["steps"]
    again, _ = iterate(algorithm, setting, new, KEY)
    assert again.scales.observations.count > new.scales.observations.count
    # Ratios are one where learner and life see in the same scale: the mean of normalised advantages is 0.
    estimation = replace(setting.estimator.estimation, normalise=True)
    scaled = replace(setting, estimator=replace(setting.estimator, estimation=estimation))
    assert abs(iterate(algorithm, scaled, new, KEY)[1]["loss"]) < 1e-5
    assert metrics["return"] > 1.0


def test_what_is_already_in_scale_is_learned_as_well_as_before():
    """Reward −(a − 1)² and a constant observation, of which nothing is left but its bias."""
    setting = normalised(setting_of(Target(), episodes=32), BOTH)
    state, seen = train(SingleTask(rule=TrustRegion(max_kl=0.1)), setting, policy_for(setting), iterations=20)
    acting = setting.estimator.normalisation.policy(state.policy, state.scales)
    assert abs(float(acting(jnp.ones(1)).mean[0]) - 1) < 0.3
    assert seen[0]["return"] < -1.2


def test_a_limit_of_zero_is_refused():
    with pytest.raises(UserError, match=r"limit is 0.0; it must be above 0"):
        Normalisation(limit=0.0)
