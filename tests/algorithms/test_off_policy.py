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
from surefoot.algorithms import OffPolicyReinforce, Setting, SingleTask
from surefoot.baselines import LinearFeatures
from surefoot.options import UserError
from surefoot.policies import ActorCritic
from surefoot.rules import GradientStep, OptaxStep
from surefoot.samplers import StreamSampler

KEY = jax.random.key(5)
WEIGHTINGS = pytest.mark.parametrize("weighting", ["trajectory", "per-decision", "marginal"])


def clock(**options: Any) -> Setting:
    return setting_of(Clock(horizon=3), episodes=6, **{"normalise": False, "discount": 0.9, **options})


def begun(algorithm: Any, setting: Setting) -> Any:
    return algorithm.init(setting, policy_for(setting, hidden=(2,), output_scale=1.0), KEY)


@WEIGHTINGS
@pytest.mark.parametrize("time_limit", ["ends", "bootstraps"])
def test_the_first_step_is_that_of_the_policy_gradient(weighting: Any, time_limit: Any):
    """Also where episodes are cut short and their returns go on with a value, which is no reward."""
    setting = clock(baseline=LinearFeatures(), fit="previous-batch", time_limit=time_limit)
    once = OffPolicyReinforce(GradientStep(lr=0.1), gradient_steps=1, weighting=weighting)
    plain = SingleTask(rule=GradientStep(lr=0.1), loss="reinforce")
    state, expected = (begun(algorithm, setting) for algorithm in (once, plain))
    for i in range(2):
        state, _ = iterate(once, setting, state, jax.random.fold_in(KEY, i))
        expected, _ = iterate(plain, setting, expected, jax.random.fold_in(KEY, i))
    np.testing.assert_allclose(ravel(state.policy), ravel(expected.policy), rtol=1e-3, atol=1e-4)


def test_the_effective_sample_size_falls_as_the_policy_moves_away():
    setting, sizes = clock(), []
    for lr in (0.0, 0.01, 0.1):
        algorithm = OffPolicyReinforce(GradientStep(lr=lr), gradient_steps=2)
        _, metrics = iterate(algorithm, setting, begun(algorithm, setting), KEY)
        sizes.append(float(metrics["effective_sample_size"]))
        assert (metrics["kl"] > 0) == (lr > 0)
    assert sizes[0] == pytest.approx(1.0, abs=1e-6)
    assert 1.0 > sizes[1] > sizes[2] > 0.0


def test_the_effective_sample_size_by_hand():
    setting = clock()
    algorithm = OffPolicyReinforce(OptaxStep(lr=0.05), gradient_steps=2)
    state = begun(algorithm, setting)
    new, metrics = iterate(algorithm, setting, state, KEY)
    batch = eqx.filter_jit(prepared_batch)(setting, state, KEY).batch
    ratios = new.policy(batch.observations).log_prob(batch.actions) - batch.log_probs
    weights = np.exp(np.where(batch.valid, ratios, 0.0).sum(axis=1))
    expected = weights.sum() ** 2 / (weights**2).sum() / 6
    np.testing.assert_allclose(metrics["effective_sample_size"], expected, rtol=1e-4)
    old = state.policy(batch.observations)
    divergence = np.asarray(old.kl(new.policy(batch.observations)))[np.asarray(batch.valid)].mean()
    np.testing.assert_allclose(metrics["kl"], divergence, rtol=1e-3)


def test_steps_on_a_batch_are_taken_one_after_another():
    setting, moves = clock(), []
    for steps in (1, 3):
        algorithm = OffPolicyReinforce(OptaxStep(lr=0.05), gradient_steps=steps)
        state = begun(algorithm, setting)
        new, metrics = iterate(algorithm, setting, state, KEY)
        moves.append(float(jnp.abs(ravel(new.policy) - ravel(state.policy)).max()))
        assert jnp.isfinite(metrics["loss"])
        counts = [x for x in jax.tree.leaves(new.own.rule) if x.dtype == jnp.int32]
        assert [int(count) for count in counts] == [steps]
    assert moves[1] > 2 * moves[0]


def test_clipped_and_normalised_weights_lead_elsewhere():
    setting, found = clock(), []
    for options in ({}, {"clip": 0.9}, {"self_normalised": True}):
        algorithm = OffPolicyReinforce(
            GradientStep(lr=0.3), gradient_steps=2, weighting="trajectory", **options
        )
        found.append(ravel(iterate(algorithm, setting, begun(algorithm, setting), KEY)[0].policy))
    assert jnp.abs(found[1] - found[0]).max() > 1e-3
    assert jnp.abs(found[2] - found[0]).max() > 1e-3


@WEIGHTINGS
@pytest.mark.parametrize(("clip", "normalised"), [(0.9, False), (None, True)], ids=["clipped", "normalised"])
def test_two_steps_by_hand(weighting: Any, clip: float | None, normalised: bool):
    """Without a baseline an action's credit is what was earned from it on."""
    setting = clock()
    algorithm = OffPolicyReinforce(GradientStep(lr=0.1), 2, weighting, clip, normalised)
    state = begun(algorithm, setting)
    batch = eqx.filter_jit(prepared_batch)(setting, state, KEY).batch
    rewards, valid = batch.transitions.rewards, batch.valid
    vector, build = flatten(state.policy)

    def log_probs(v: Any) -> Any:
        return build(v)(batch.observations).log_prob(batch.actions)

    def loss(v: Any, credit: Any) -> Any:
        return -jnp.mean(credit * log_probs(v), where=valid)

    for _ in range(2):
        ratios = jnp.where(valid, jnp.exp(log_probs(vector) - batch.log_probs), 1.0)
        weights = jnp.cumprod(ratios, axis=1)
        if weighting == "trajectory":
            weights = jnp.broadcast_to(weights[:, -1:], ratios.shape)
        elif weighting == "marginal":
            weights = ratios
        if clip is not None:
            weights = jnp.minimum(weights, clip)
        if normalised:
            weights = weights / weights.mean(axis=0)
        of_reward, of_action = (weights, 1.0) if weighting == "per-decision" else (1.0, weights)
        earned = of_reward * rewards
        to_go = sum(0.9**k * jnp.pad(earned[:, k:], ((0, 0), (0, k))) for k in range(3))
        vector = vector - 0.1 * jax.jit(jax.grad(loss))(vector, of_action * to_go)
    new, _ = iterate(algorithm, setting, state, KEY)
    np.testing.assert_allclose(ravel(new.policy), vector, rtol=1e-4, atol=1e-5)


def test_streams_are_refused_with_what_to_do():
    setting = replace(clock(), sampler=StreamSampler(Clock(), 4, 4))
    with pytest.raises(UserError, match="whole episodes; set --streams 0"):
        begun(OffPolicyReinforce(), setting)


def test_an_actor_critic_is_refused():
    setting = clock()
    policy = ActorCritic(hidden=(3,)).build(KEY, 1, setting.sampler.env.action_space)
    with pytest.raises(UserError, match="trains no values"):
        OffPolicyReinforce().init(setting, policy, KEY)


@pytest.mark.parametrize("options", [{"normalise": True}, {"gae_lambda": 0.9}, {"credit": "k-step"}])
def test_per_decision_weights_ask_for_rewards_to_go(options: dict):
    setting = clock(**options)
    with pytest.raises(UserError, match=r"rewards themselves; set --estimation.no-normalise"):
        begun(OffPolicyReinforce(), setting)
    # The others weigh advantages, whatever these are.
    begun(OffPolicyReinforce(weighting="trajectory"), setting)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gradient_steps": 0}, "gradient-steps is 0; it must be 1 or more"),
        ({"clip": 0.0}, "clip is 0.0; it must be a positive number, or none"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        OffPolicyReinforce(**options)
