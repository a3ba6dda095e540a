from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, identical, numbers, ravel
from support.on_policy import prepared_batch
from support.probes import Clock
from support.rules import RULES
from support.settings import iterate, policy_for, setting_of, train
from surefoot.algorithms import MAML, SingleTask, policy_objective
from surefoot.baselines import LinearFeatures, ValueNetwork, Zero
from surefoot.envs.probes import ObservedReward
from surefoot.policies import ActorCritic, PredictReward
from surefoot.rules import AbstractRule, GradientStep, PPOClip, TrustRegion
from surefoot.theory.objectives import ActorCriticObjective

KEY = jax.random.key(5)
CLOCK = setting_of(Clock(horizon=3), episodes=8, baseline=LinearFeatures(), fit="cross-fit")


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_finds_the_optimum_of_the_probe(rule: AbstractRule):
    """Reward −(a − 1)²: the best mean is 1, and the return of a policy with mean 0 and deviation 1 is −2."""
    # A gradient step's length is that of the gradient, which grows without bound where advantages are
    # normalised and the policy grows certain.
    setting = setting_of(episodes=64, normalise=not isinstance(rule, GradientStep))
    policy = policy_for(setting)
    state, seen = train(SingleTask(rule=rule), setting, policy, iterations=30)
    mean = float(state.policy(jnp.ones(1)).mean[0])
    assert policy(jnp.ones(1)).mean[0] == 0.0
    assert abs(mean - 1) < 0.25
    assert seen[0]["return"] < -1.2
    assert np.mean([m["return"] for m in seen[-3:]]) > -0.6
    assert seen[-1]["entropy"] < seen[0]["entropy"]


@pytest.mark.parametrize("loss", ["reinforce", "surrogate"])
def test_both_losses_take_the_same_gradient_step(loss: Any):
    setting = setting_of()
    algorithm, other = (SingleTask(rule=GradientStep(lr=0.3), loss=name) for name in (loss, "surrogate"))
    (state, _), (expected, _) = (
        train(a, setting, policy_for(setting), iterations=1) for a in (algorithm, other)
    )
    for got, want in zip(jax.tree.leaves(state.policy), jax.tree.leaves(expected.policy), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(("loss", "bonus"), [("reinforce", 0.0), ("reinforce", 0.5), ("surrogate", 0.5)])
def test_the_loss_is_the_one_asked_for_less_the_entropys_bonus(loss: Any, bonus: float):
    setting = setting_of(Clock(), normalise=False)
    algorithm = SingleTask(GradientStep(lr=0.1), loss, entropy_bonus=bonus)
    state = algorithm.init(setting, policy_for(setting, hidden=(2,), output_scale=1.0), KEY)
    batch = eqx.filter_jit(prepared_batch)(setting, state, KEY).batch
    vector, build = flatten(state.policy)

    def by_hand(v: Any) -> Any:
        prediction = build(v)(batch.observations)
        log_probs = prediction.log_prob(batch.actions)
        score = log_probs if loss == "reinforce" else jnp.exp(log_probs - batch.log_probs)
        return -jnp.mean(score * batch.advantages + bonus * prediction.entropy(), where=batch.valid)

    value, slope = jax.jit(jax.value_and_grad(by_hand))(vector)
    new, metrics = iterate(algorithm, setting, state, KEY)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(ravel(new.policy), vector - 0.1 * slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("coefficient", "weight"), [(0.25, 0.7), (2.0, 0.7), (2.0, 0.1)])
def test_an_actor_critics_loss_is_the_sum_of_its_parts(coefficient: float, weight: float):
    setting = setting_of(Clock(), normalise=False)
    env, options = setting.sampler.env, ActorCritic(hidden=(3,), auxiliary=PredictReward(weight))
    policy = options.build(KEY, env.observation_space, env.action_space)
    algorithm = SingleTask(GradientStep(lr=0.01), entropy_bonus=0.5, value_coefficient=coefficient)
    state = algorithm.init(setting, policy, KEY)
    batch = eqx.filter_jit(prepared_batch)(setting, state, KEY).batch
    vector, build = flatten(policy)

    def by_hand(v: Any) -> Any:
        outputs = build(v).outputs(batch.observations, batch.actions)
        ratio = jnp.exp(outputs.distribution.log_prob(batch.actions) - batch.log_probs)
        of_actions = -ratio * batch.advantages - 0.5 * outputs.distribution.entropy()
        of_values = 0.5 * (outputs.values - batch.transitions.returns) ** 2
        of_rewards = 0.5 * (outputs.auxiliary[..., 0] - batch.transitions.rewards) ** 2
        return jnp.mean(of_actions + coefficient * of_values + weight * of_rewards, where=batch.valid)

    value, slope = jax.jit(jax.value_and_grad(by_hand))(vector)
    new, metrics = iterate(algorithm, setting, state, KEY)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(ravel(new.policy), vector - 0.01 * slope, rtol=1e-4, atol=1e-5)


def test_the_options_of_the_loss_reach_the_objective():
    env = CLOCK.sampler.env
    policy = ActorCritic(hidden=(3,)).build(KEY, env.observation_space, env.action_space)
    algorithm = SingleTask(
        loss="reinforce", entropy_bonus=0.3, value_coefficient=0.7, value_proximal=2.0, rule=GradientStep()
    )
    expected = ActorCriticObjective(policy_objective("reinforce", 0.3), 0.7, None, 2.0)
    assert algorithm._objective(policy) == expected
    assert algorithm._objective(policy_for(CLOCK)) == policy_objective("reinforce", 0.3)


def test_the_same_key_gives_the_same_iteration_to_the_last_bit():
    algorithm = SingleTask()
    state = algorithm.init(CLOCK, policy_for(CLOCK), jax.random.key(1))
    first, second = (iterate(algorithm, CLOCK, state, jax.random.key(5)) for _ in range(2))
    other = iterate(algorithm, CLOCK, state, jax.random.key(6))
    assert identical(first, second)
    assert not identical(first[0].policy, other[0].policy)


def test_what_an_iteration_says_of_itself():
    _, (metrics,) = train(SingleTask(), CLOCK, policy_for(CLOCK), iterations=1)
    assert {"return", "episode_length", "entropy", "loss", "kl", "step_accepted"} <= metrics.keys()
    assert 1 <= metrics["episode_length"] <= 3
    # Two action dimensions of deviation 1.
    np.testing.assert_allclose(metrics["entropy"], 1 + np.log(2 * np.pi), rtol=1e-4)
    # Before the step the ratio is 1, and normalised advantages have the mean 0.
    assert abs(metrics["loss"]) < 1e-5


@pytest.mark.parametrize(("baseline", "explained"), [(Zero(), 0.0), (LinearFeatures(), 1.0)])
def test_an_iteration_says_how_much_its_values_explain(baseline: Any, explained: float):
    """The reward is the observation: a line tells all of it."""
    setting = setting_of(ObservedReward(actions="continuous"), baseline=baseline, fit="same-batch")
    _, (metrics,) = train(SingleTask(), setting, policy_for(setting), iterations=1)
    np.testing.assert_allclose(metrics["explained_variance"], explained, atol=1e-3)


def test_the_task_is_drawn_once_and_kept():
    algorithm = SingleTask()
    start = algorithm.init(CLOCK, policy_for(CLOCK), jax.random.key(1))
    state, _ = train(algorithm, CLOCK, policy_for(CLOCK), iterations=2)
    assert identical(state.own.task, start.own.task)
    assert not identical(start.own.task, algorithm.init(CLOCK, policy_for(CLOCK), jax.random.key(7)).own.task)
    held_out = algorithm.evaluation_tasks(CLOCK.sampler.env, state, jax.random.key(9), 3)
    np.testing.assert_array_equal(held_out, np.repeat(start.own.task, 3))


def test_the_baseline_learns_from_iteration_to_iteration():
    """The clock's rewards depend on time alone, so its returns can be foretold but for the random ends."""
    setting = setting_of(
        Clock(), episodes=16, baseline=LinearFeatures(), fit="previous-batch", normalise=False
    )
    state, _ = train(SingleTask(rule=GradientStep(lr=0.0)), setting, policy_for(setting), iterations=3)
    sampler, estimator = setting.sampler, setting.estimator
    rollout = sampler.submit(state.policy, state.own.task[0], jax.random.key(11)).result()
    ending = replace(estimator, limit_ends_return=True)
    unfitted = (estimator.estimation.baseline.init(jax.random.key(0), 1, 4),)

    def error(baselines: Any) -> float:
        # Where the limit is taken for an end both are judged by the same returns.
        batch = ending.batch(ending.prepare(rollout, state.scales), baselines[0])
        return float(jnp.mean(batch.advantages[rollout.valid] ** 2))

    assert error(state.baselines) < 0.5 * error(unfitted)


def test_each_run_draws_its_own_minibatches():
    algorithm, policy = SingleTask(rule=PPOClip()), policy_for(CLOCK)
    states = [algorithm.init(CLOCK, policy, jax.random.key(seed)) for seed in (0, 0, 1)]
    assert identical(states[0].own.rule.key, states[1].own.rule.key)
    assert not identical(states[0].own.rule.key, states[2].own.rule.key)
    meta = MAML(outer=TrustRegion(fisher_fraction=0.5))
    setting = setting_of(Clock())
    outer = [meta.init(setting, policy, jax.random.key(seed)).own.rule for seed in (0, 1)]
    assert not identical(*outer)


def test_in_parts_side_by_side_it_learns_what_it_learns_in_one_program():
    network = ValueNetwork(hidden=(8,), epochs=2, minibatches=2)
    setting = setting_of(Clock(), baseline=network, fit="previous-batch")
    algorithm, policy = SingleTask(), policy_for(setting)
    state = algorithm.init(setting, policy, jax.random.key(1))
    key = jax.random.key(5)
    (whole, told), (parts, also) = (
        run(setting, state, key) for run in (partial(iterate, algorithm), algorithm.iterate)
    )
    assert told.keys() == also.keys()
    for got, want in zip(*(map(numbers, jax.tree.leaves(tree)) for tree in (parts, whole)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert not identical(parts.baselines, state.baselines)
    # Worth it on a CPU, for a baseline with a loop of its own.
    assert algorithm.in_one_program(setting, state) == (jax.default_backend() != "cpu")
    assert algorithm.in_one_program(CLOCK, algorithm.init(CLOCK, policy, key))
