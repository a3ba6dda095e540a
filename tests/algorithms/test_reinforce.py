from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, ravel
from support.on_policy import prepared_batch
from support.probes import Clock
from support.settings import iterate, policy_for, setting_of
from surefoot.algorithms import Reinforce, Setting
from surefoot.baselines import Constant
from surefoot.options import UserError
from surefoot.policies import ActorCritic
from surefoot.rules import OptaxStep
from surefoot.samplers import StreamSampler

KEY = jax.random.key(5)
STEP = OptaxStep("sgd", lr=0.5)


def clock(**options: Any) -> Setting:
    chosen = {"credit": "whole-return", "normalise": False, "discount": 0.9, "time_limit": "ends", **options}
    return setting_of(Clock(horizon=3), episodes=6, **chosen)


def by_hand(setting: Setting, state: Any, baseline: str) -> np.ndarray:
    """1/N Σᵢ sᵢ (Rᵢ − b), with scores by a Jacobian and b by its formula, parameter by parameter."""
    batch = eqx.filter_jit(prepared_batch)(setting, state, KEY).batch
    vector, build = flatten(state.policy)

    def log_likelihoods(v: Any) -> Any:
        log_probs = build(v)(batch.observations).log_prob(batch.actions)
        return jnp.where(batch.valid, log_probs, 0.0).sum(axis=1)

    scores = np.asarray(jax.jit(jax.jacobian(log_likelihoods))(vector), float)
    rewards = np.asarray(batch.transitions.rewards, float)
    returns = (rewards * 0.9 ** np.arange(3)).sum(axis=1) - np.asarray(batch.transitions.values[:, 0])
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i or baseline == "optimal"]
        squares = scores[others] ** 2
        b = (squares * returns[others, None]).sum(0) / squares.sum(0) if baseline != "none" else 0.0
        terms.append(scores[i] * (returns[i] - b))
    return np.mean(terms, axis=0)


@pytest.mark.parametrize("baseline", ["none", "optimal", "leave-one-out"])
@pytest.mark.parametrize("estimation", [{}, {"baseline": Constant()}], ids=["zero", "constant"])
def test_the_step_is_along_the_gradient_by_its_formula(baseline: Any, estimation: dict):
    setting = clock(**estimation)
    algorithm = Reinforce(step=STEP, baseline=baseline)
    state = algorithm.init(setting, policy_for(setting, hidden=(2,), output_scale=1.0), KEY)
    new, metrics = iterate(algorithm, setting, state, KEY)
    gradient = by_hand(setting, state, baseline)
    np.testing.assert_allclose(ravel(new.policy) - ravel(state.policy), 0.5 * gradient, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-3)
    assert np.linalg.norm(gradient) > 0.1


def test_the_loss_is_minus_the_mean_return_and_the_metrics_say_the_rest():
    setting = clock(discount=1.0)
    algorithm = Reinforce(step=STEP)
    state = algorithm.init(setting, policy_for(setting), KEY)
    _, metrics = iterate(algorithm, setting, state, KEY)
    np.testing.assert_allclose(metrics["loss"], -metrics["return"], rtol=1e-5)
    assert {"episode_length", "entropy", "steps"} <= metrics.keys()


def test_the_task_is_its_own_and_kept():
    setting = clock()
    algorithm = Reinforce(step=STEP)
    state = algorithm.init(setting, policy_for(setting), KEY)
    new, _ = iterate(algorithm, setting, state, KEY)
    np.testing.assert_array_equal(new.own.task, state.own.task)
    np.testing.assert_array_equal(
        algorithm.evaluation_tasks(setting.sampler.env, new, KEY, 3), np.repeat(state.own.task, 3)
    )


@pytest.mark.parametrize("credit", ["gae", "k-step"])
def test_anything_but_the_whole_return_is_refused_with_what_to_use_instead(credit: Any):
    setting = clock(credit=credit)
    with pytest.raises(UserError, match=r"credit whole-return, or use --algorithm single-task"):
        Reinforce().init(setting, policy_for(setting), KEY)


def test_streams_are_refused_with_what_to_do():
    setting = replace(clock(), sampler=StreamSampler(Clock(), 4, 4))
    with pytest.raises(UserError, match="--streams 0"):
        Reinforce().init(setting, policy_for(setting), KEY)


def test_an_actor_critic_is_refused():
    setting = clock()
    policy = ActorCritic(hidden=(3,)).build(KEY, 1, setting.sampler.env.action_space)
    with pytest.raises(UserError, match="trains no values"):
        Reinforce().init(setting, policy, KEY)
