from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from support.dense import compared, flatten, gradient_of, ravel
from support.samples import categorical_policy, gaussian_policy, ragged, random_batch
from surefoot.theory.importance import clip_weights, self_normalise
from surefoot.theory.objectives import PolicyObjective, reinforce, surrogate
from surefoot.theory.off_policy import OffPolicyObjective, trajectory_weights
from surefoot.theory.returns import reward_to_go
from surefoot.types import Batch, Transitions

WEIGHTINGS = ("trajectory", "per-decision", "marginal")
KINDS = pytest.mark.parametrize(
    "build", [gaussian_policy, categorical_policy], ids=["gaussian", "categorical"]
)


@eqx.filter_jit
def _episodes(policy: Any, values: Array, whole: bool) -> Batch:
    """Whole episodes drawn by `policy`, with the undiscounted rewards-to-go less V, or the returns of whole
    episodes, as advantages."""
    batch = random_batch(policy, jax.random.key(1), episodes=5, time=4)
    shape, valid = batch.valid.shape, batch.valid
    rewards = jnp.where(valid, jax.random.normal(jax.random.key(2), shape), 0.0)
    last = valid & ~jnp.concatenate([valid[:, 1:], jnp.zeros((shape[0], 1), bool)], axis=1)
    discounts = jnp.where(valid & ~last, jnp.ones(shape), 0.0)
    baseline = jnp.where(valid, values * jax.random.normal(jax.random.key(3), shape), 0.0)
    returns = jax.vmap(reward_to_go)(rewards, discounts)
    credits = jnp.broadcast_to(returns[:, :1], shape) if whole else returns
    known = Transitions(rewards, discounts, baseline, returns, jnp.zeros((*shape, 2)))
    return replace(batch, advantages=jnp.where(valid, credits - baseline, 0.0), transitions=known)


def episodes_of(policy: Any, *, whole: bool = False, values: float = 0.0) -> Batch:
    return _episodes(policy, jnp.asarray(values, float), whole)


@eqx.filter_jit
def moved(policy: Any) -> Any:
    vector, build = flatten(policy)
    return build(vector + 0.3 * jax.random.normal(jax.random.key(9), vector.shape))


@eqx.filter_jit
def log_probs_of(policy: Any, batch: Batch) -> Array:
    return policy(batch.observations).log_prob(batch.actions)


def log_ratios(policy: Any, batch: Batch) -> Array:
    return jnp.where(batch.valid, policy(batch.observations).log_prob(batch.actions) - batch.log_probs, 0.0)


def slope_of(estimate: Any, policy: Any, batch: Batch) -> Array:
    """The gradient of minus an estimate of the return. An estimate is a mean over episodes, and a loss is
    one over steps."""
    vector, build = flatten(policy)
    value = jax.jit(jax.grad(lambda v: -jnp.mean(estimate(log_ratios(build(v), batch)))))(vector)
    return value * len(batch.valid) / batch.valid.sum().astype(value.dtype)


@KINDS
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_at_the_policy_that_drew_the_data_it_is_the_policy_gradient(build: Any, weighting: Any, x64: None):
    policy = build()
    batch = episodes_of(policy, values=0.5)
    objective = OffPolicyObjective(weighting)
    log_probs = log_probs_of(policy, batch)
    np.testing.assert_allclose(objective.weights(log_probs, batch), 1.0, rtol=1e-12)
    np.testing.assert_allclose(trajectory_weights(log_probs, batch), 1.0, rtol=1e-12)
    expected_loss, expected = gradient_of(PolicyObjective(reinforce), policy, batch)
    loss, gradient = gradient_of(objective, policy, batch)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-10)
    np.testing.assert_allclose(ravel(gradient), ravel(expected), atol=1e-12)
    assert jnp.linalg.norm(ravel(expected)) > 0.05


@KINDS
def test_per_decision_weights_give_the_slope_of_the_per_decision_estimate(build: Any, x64: None):
    """V̂ = Σ_t (Π_{k≤t} ρ_k) r_t, differentiated at a policy that did not draw the data."""
    old = build()
    batch = episodes_of(old)
    new = moved(old)

    def estimate(ratios: Array) -> Array:
        return jnp.sum(jnp.exp(jnp.cumsum(ratios, axis=1)) * batch.transitions.rewards, axis=1)

    gradient = ravel(gradient_of(OffPolicyObjective("per-decision"), new, batch)[1])
    np.testing.assert_allclose(gradient, slope_of(estimate, new, batch), atol=1e-10)
    on_policy = ravel(gradient_of(PolicyObjective(reinforce), new, batch)[1])
    assert jnp.linalg.norm(gradient - on_policy) > 0.05


@KINDS
def test_trajectory_weights_give_the_slope_of_the_weighted_mean_return(build: Any, x64: None):
    old = build()
    batch = episodes_of(old, whole=True)
    new = moved(old)

    def estimate(ratios: Array) -> Array:
        return jnp.exp(jnp.sum(ratios, axis=1)) * batch.transitions.rewards.sum(axis=1)

    gradient = ravel(gradient_of(OffPolicyObjective("trajectory"), new, batch)[1])
    np.testing.assert_allclose(gradient, slope_of(estimate, new, batch), atol=1e-10)


@KINDS
def test_marginal_weights_give_the_slope_of_the_surrogate(build: Any, x64: None):
    old = build()
    batch = episodes_of(old, values=0.5)
    gradient = gradient_of(OffPolicyObjective("marginal"), moved(old), batch)[1]
    expected = gradient_of(PolicyObjective(surrogate), moved(old), batch)[1]
    np.testing.assert_allclose(ravel(gradient), ravel(expected), atol=1e-12)


def test_a_baseline_is_subtracted_from_what_the_future_earns(x64: None):
    """From step t on, values v cost w_t v ∇log π each, whatever the rewards."""
    old = gaussian_policy()
    new, objective = moved(old), OffPolicyObjective("per-decision")
    with_values, without = episodes_of(old, values=0.5), episodes_of(old)
    log_probs = log_probs_of(new, without)
    weights = objective.weights(log_probs, without)
    alone = replace(without, advantages=with_values.transitions.values * weights)
    cost = ravel(gradient_of(PolicyObjective(reinforce), new, alone)[1])
    difference = gradient_of(objective, new, without)[1], gradient_of(objective, new, with_values)[1]
    np.testing.assert_allclose(ravel(difference[0]) - ravel(difference[1]), cost, atol=1e-10)


def test_the_weights_by_hand():
    policy = categorical_policy()
    batch = random_batch(policy, jax.random.key(1), episodes=2, time=2)
    batch = replace(batch, log_probs=jnp.zeros((2, 2)))
    np.testing.assert_array_equal(batch.valid, [[True, True], [True, False]])
    log_probs = jnp.log(jnp.array([[2.0, 0.25], [4.0, 100.0]]))
    expected = {
        "trajectory": [[0.5, 0.5], [4.0, 4.0]],
        "per-decision": [[2.0, 0.5], [4.0, 4.0]],
        "marginal": [[2.0, 0.25], [4.0, 1.0]],
    }
    for weighting, weights in expected.items():
        found = OffPolicyObjective(weighting).weights(log_probs, batch)
        np.testing.assert_allclose(found, weights, rtol=1e-6)
        clipped = OffPolicyObjective(weighting, clip=1.5).weights(log_probs, batch)
        np.testing.assert_allclose(clipped, np.minimum(weights, 1.5), rtol=1e-6)
        normalised = OffPolicyObjective(weighting, normalised=True).weights(log_probs, batch)
        np.testing.assert_allclose(normalised, np.array(weights) / np.mean(weights, axis=0), rtol=1e-6)
        both = OffPolicyObjective(weighting, clip=1.5, normalised=True).weights(log_probs, batch)
        np.testing.assert_allclose(both, self_normalise(clip_weights(jnp.array(weights), 1.5)), rtol=1e-6)
    np.testing.assert_allclose(trajectory_weights(log_probs, batch), [0.5, 4.0], rtol=1e-6)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_clipped_and_normalised_weights_are_those_of_the_gradient(weighting: Any, x64: None):
    old = gaussian_policy()
    batch, new = episodes_of(old, values=0.5), moved(old)
    log_probs = log_probs_of(new, batch)
    plain = OffPolicyObjective(weighting).weights(log_probs, batch)
    objective = OffPolicyObjective(weighting, clip=1.1, normalised=True)
    weights = objective.weights(log_probs, batch)
    assert (plain > 1.1).any()
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, rtol=1e-10)
    credits = credits_by_hand(weights, batch) if weighting == "per-decision" else weights * batch.advantages
    expected = gradient_of(PolicyObjective(reinforce), new, replace(batch, advantages=credits))[1]
    np.testing.assert_allclose(ravel(gradient_of(objective, new, batch)[1]), ravel(expected), atol=1e-12)


def credits_by_hand(weights: Array, batch: Batch) -> Array:
    """Σ_{k≥t} w_k r_k − w_t V(s_t), undiscounted as these episodes are."""
    known, credits = batch.transitions, np.zeros(batch.valid.shape)
    for episode, length in enumerate(np.asarray(batch.valid.sum(axis=1))):
        for t in range(length):
            later = sum(weights[episode, k] * known.rewards[episode, k] for k in range(t, length))
            credits[episode, t] = later - weights[episode, t] * known.values[episode, t]
    return jnp.asarray(credits)


def test_a_limit_on_the_weights_is_one_on_what_a_reward_counts():
    """However improbable the decisions after an action were, its credit is no more than the limit times the
    rewards that followed."""
    batch = episodes_of(gaussian_policy())
    known = batch.transitions
    alone = jnp.zeros_like(known.rewards).at[:, 3].set(1.0)
    returns = jax.vmap(reward_to_go)(alone, jnp.ones_like(alone).at[:, 3].set(0.0))
    known = replace(known, returns=returns, discounts=jnp.ones_like(alone).at[:, 3].set(0.0))
    batch = replace(batch, valid=jnp.ones_like(batch.valid), log_probs=jnp.zeros((5, 4)), transitions=known)
    objective = OffPolicyObjective("per-decision", clip=2.0)
    weights = objective.weights(jnp.full((5, 4), jnp.log(50.0)), batch)
    np.testing.assert_allclose(objective._credits(weights, batch), 2.0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_nothing_depends_on_what_stands_in_padding(weighting: Any):
    old = gaussian_policy()
    batch, new = episodes_of(old, values=0.5), moved(old)
    objective = OffPolicyObjective(weighting, clip=3.0, normalised=True)
    loss, gradient = gradient_of(objective, new, batch)
    for padding in (1e3, jnp.nan):
        soiled = eqx.tree_at(
            lambda b: (b.advantages, b.log_probs, b.transitions.returns, b.transitions.values),
            batch,
            replace_fn=lambda x, padding=padding: jnp.where(batch.valid, x, padding),
        )
        other_loss, other_gradient = gradient_of(objective, new, soiled)
        np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
        np.testing.assert_allclose(ravel(other_gradient), ravel(gradient), rtol=1e-4, atol=1e-6)


def test_transitions_are_asked_for_where_they_are_read():
    wanted = {w: OffPolicyObjective(w).uses_transitions for w in ("trajectory", "marginal", "per-decision")}
    assert wanted == {"trajectory": False, "marginal": False, "per-decision": True}


def test_the_divergence_is_that_of_the_valid_steps():
    old = gaussian_policy()
    batch, new = episodes_of(old), moved(old)
    objective = OffPolicyObjective("marginal")
    each = eqx.filter_jit(lambda a, b: a(batch.observations).kl(b(batch.observations)))(old, new)
    expected = np.asarray(each)[np.asarray(ragged(5, 4))].mean()
    np.testing.assert_allclose(compared(objective, old, new, batch)[2], expected, rtol=1e-5)
