"""A task that asks for a memory, learned through time."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

from support.on_policy import prepared_batch
from support.settings import train
from surefoot.algorithms import Estimation, Setting, SingleTask
from surefoot.baselines import Constant
from surefoot.envs import Recall
from surefoot.policies import GRU, AttentionActorCritic, CategoricalMLP, PolicyOptions
from surefoot.rules import AbstractRule, PPOClip, TrustRegion
from surefoot.samplers import AbstractCollector, ScanSampler, StreamSampler
from surefoot.theory.objectives import PolicyObjective, surrogate

ENV = Recall(delay=2)
SAMPLERS = {"episodes": ScanSampler(ENV, 64), "streams": StreamSampler(ENV, 64, 6)}


def recalled(
    rule: AbstractRule, options: PolicyOptions, sampler: AbstractCollector, iterations: int
) -> tuple[float, float]:
    """The fraction of cues that are named at first, and at last."""
    setting = Setting.of(sampler, Estimation(Constant(), discount=1.0, gae_lambda=1.0, fit="previous-batch"))
    policy: Any = options.build(jax.random.key(0), ENV.observation_space, ENV.action_space)
    _, seen = train(SingleTask(rule=rule), setting, policy, iterations=iterations)
    returns = [metrics["return"] for metrics in seen]
    return float(np.mean(returns[:3])), float(np.mean(returns[-5:]))


def test_a_stream_is_learned_from_as_it_was_played():
    """Rows that begin and end in the middle of episodes: the log-probabilities are those of the policy
    unrolled from the memory of the batch before, which is lost where an episode begins."""
    env, key = Recall(delay=1), jax.random.key(3)
    setting = Setting.of(StreamSampler(env, 4, 5), Estimation(Constant(), fit="previous-batch"))
    policy: Any = GRU(units=4, output_scale=1.0).build(key, env.observation_space, env.action_space)
    state = SingleTask().init(setting, policy, key)
    prepared = eqx.filter_jit(prepared_batch)
    batch = prepared(setting, prepared(setting, state, key).state, jax.random.key(4)).batch
    predicted = eqx.filter_jit(PolicyObjective(surrogate).predict)(policy, batch)
    np.testing.assert_allclose(predicted.log_prob(batch.actions), batch.log_probs, atol=1e-5)
    np.testing.assert_array_equal(batch.starts, [[False, True, False, False, True]] * 4)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(
    ("rule", "iterations"),
    [(TrustRegion(max_kl=0.03), 80), (PPOClip(lr=0.005, epochs=4), 30)],
    ids=["trpo", "ppo"],
)
def test_a_recurrent_policy_learns_to_remember(
    rule: AbstractRule, iterations: int, sampler: AbstractCollector
):
    """From one half, which is chance, to nearly all."""
    first, last = recalled(rule, GRU(units=8), sampler, iterations)
    assert abs(first - 1 / ENV.cues) < 0.15
    assert last > 0.9


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_so_does_one_that_attends_to_the_past(sampler: AbstractCollector):
    options = AttentionActorCritic(units=16, heads=2, layers=1, length=ENV.horizon)
    first, last = recalled(PPOClip(lr=0.005, epochs=4), options, sampler, 30)
    assert abs(first - 1 / ENV.cues) < 0.15
    assert last > 0.9


def test_a_policy_without_memory_does_not():
    _, last = recalled(PPOClip(lr=0.02, epochs=4), CategoricalMLP(hidden=(8,)), SAMPLERS["episodes"], 40)
    assert abs(last - 1 / ENV.cues) < 0.15
