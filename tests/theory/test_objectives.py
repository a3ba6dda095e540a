from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, gradient_of, ravel
from support.probes import Bowl, Point
from support.samples import OBSERVATION, categorical_policy, gaussian_policy, random_batch
from surefoot.options import UserError
from surefoot.policies import ActorCritic, GaussianMLP, PredictReward
from surefoot.rules import GradientStep
from surefoot.theory.meta import adapted
from surefoot.theory.objectives import (
    ActorCriticObjective,
    Clipped,
    Penalised,
    PolicyObjective,
    adaptive_kl_coefficient,
    reinforce,
    surrogate,
)
from surefoot.theory.off_policy import OffPolicyObjective
from surefoot.types import Batch, Continuous, Discrete, Transitions

POLICIES = pytest.mark.parametrize("build", [gaussian_policy, categorical_policy])


def difference_of_hessians(one: PolicyObjective, other: PolicyObjective, policy: Any, batch: Any) -> Any:
    vector, build = flatten(policy)

    def difference(v: jax.Array) -> jax.Array:
        prediction = one.predict(build(v), batch)
        return one.loss(prediction, batch) - other.loss(prediction, batch)

    return jax.jit(jax.hessian(difference))(vector)


def test_the_losses_of_a_step_by_hand():
    new, old, advantage = jnp.log(jnp.array(0.5)), jnp.log(jnp.array(0.25)), jnp.array(3.0)
    np.testing.assert_allclose(reinforce(new, old, advantage), 3 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(surrogate(new, old, advantage), -6.0, rtol=1e-6)


@POLICIES
def test_gradients_of_both_losses_agree_where_the_data_was_drawn_and_curvatures_do_not(build: Any, x64: None):
    policy = build()
    batch = random_batch(policy, jax.random.key(1))
    _, likelihood = gradient_of(PolicyObjective(reinforce), policy, batch)
    _, ratio = gradient_of(PolicyObjective(surrogate), policy, batch)
    np.testing.assert_allclose(ravel(likelihood), ravel(ratio), atol=1e-12)
    assert np.linalg.norm(ravel(ratio)) > 0.01
    # ∇²ρ = ∇²log π + (∇log π)(∇log π)ᵀ where ρ = 1: the outer product is what they differ by.
    vector, rebuild = flatten(policy)
    score = jax.jit(jax.jacobian(lambda v: rebuild(v)(batch.observations).log_prob(batch.actions)))(vector)
    weights = np.where(batch.valid, batch.advantages, 0.0) / int(batch.valid.sum())
    expected = -np.einsum("et,eti,etj->ij", weights, score, score)
    difference = difference_of_hessians(PolicyObjective(surrogate), PolicyObjective(reinforce), policy, batch)
    np.testing.assert_allclose(difference, expected, atol=1e-10)
    assert np.linalg.norm(expected) > 0.01


@POLICIES
def test_divergence_and_its_slope_are_zero_at_the_old_policy(build: Any, x64: None):
    policy = build()
    objective = PolicyObjective(surrogate)
    batch = random_batch(policy, jax.random.key(1))
    vector, rebuild = flatten(policy)

    def divergence(v: jax.Array) -> jax.Array:
        old = objective.predict(policy, batch)
        return objective.divergence(old, objective.predict(rebuild(v), batch), batch)

    value_and_slope = jax.jit(jax.value_and_grad(divergence))
    value, slope = value_and_slope(vector)
    np.testing.assert_allclose(value, 0, atol=1e-15)
    np.testing.assert_allclose(slope, 0, atol=1e-14)
    assert value_and_slope(vector + 0.1)[0] > 1e-4


def test_the_surrogate_loss_at_the_old_policy_is_minus_the_mean_valid_advantage():
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    objective = PolicyObjective(surrogate)
    expected = -np.asarray(batch.advantages)[np.asarray(batch.valid)].mean()
    np.testing.assert_allclose(gradient_of(objective, policy, batch)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("step_loss", [reinforce, surrogate])
def test_neither_loss_nor_gradient_sees_what_stands_in_padding(step_loss: Any):
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    other = eqx.tree_at(
        lambda b: (b.actions, b.log_probs, b.advantages),
        batch,
        (
            jnp.where(batch.valid[..., None], batch.actions, 5.0),
            jnp.where(batch.valid, batch.log_probs, -7.0),
            jnp.where(batch.valid, batch.advantages, -50.0),
        ),
    )
    loss, gradient = gradient_of(PolicyObjective(step_loss), policy, batch)
    other_loss, other_gradient = gradient_of(PolicyObjective(step_loss), policy, other)
    np.testing.assert_array_equal(loss, other_loss)
    np.testing.assert_array_equal(ravel(gradient), ravel(other_gradient))


@eqx.filter_jit
def overflowing(policy: Any) -> tuple[Batch, jax.Array]:
    """A batch that is half padding of zeros, and the likelihood ratios in it."""
    valid = jnp.arange(4) < 2
    observations = jnp.where(valid[:, None], 1.0, 0.0) * jnp.ones((4, 3))
    distribution = policy(observations)
    actions = jnp.where(valid[:, None], distribution.sample(jax.random.key(1)), 0.0)
    log_probs = jnp.where(valid, distribution.log_prob(actions), 0.0)
    ratios = jnp.exp(distribution.log_prob(actions) - log_probs)
    return Batch(observations, actions, log_probs, jnp.where(valid, 1.0, 0.0), valid), ratios


@pytest.mark.parametrize("step_loss", [reinforce, surrogate, Clipped(0.2)])
def test_what_a_ratio_would_be_in_padding_does_not_matter_even_where_it_overflows(step_loss: Any):
    """Padding is an action of zeros with a log-probability of zero; the policy is a very narrow Gaussian of
    many dimensions."""
    policy = GaussianMLP(hidden=(2,), initial_std=1e-3).build(jax.random.key(0), 3, Continuous(17))
    batch, ratios = overflowing(policy)
    assert ratios.max() == jnp.inf
    assert np.isfinite(ravel(gradient_of(PolicyObjective(step_loss), policy, batch)[1])).all()


def test_clipping_takes_the_gain_but_not_the_loss_beyond_the_limit():
    """ε = ¼. A ratio that moved where the advantage wants it earns no more; one that moved the other way pays
    in full."""
    clipped = Clipped(0.25)
    ratio = jnp.array([2.0, 0.5, 2.0, 0.5, 1.125, 1.125])
    advantage = jnp.array([4.0, 4.0, -4.0, -4.0, 4.0, -4.0])
    loss = clipped(jnp.log(ratio), jnp.zeros(6), advantage)
    np.testing.assert_allclose(loss, [-1.25 * 4, -0.5 * 4, 2.0 * 4, 0.75 * 4, -4.5, 4.5], rtol=1e-6)
    slope = jax.grad(lambda log_prob: clipped(log_prob, jnp.zeros(6), advantage).sum())(jnp.log(ratio))
    # dρ/dlog π = ρ where nothing is clipped.
    np.testing.assert_allclose(slope, [0.0, -0.5 * 4, 2.0 * 4, 0.0, -4.5, 4.5], rtol=1e-6)


def test_clipping_is_the_surrogate_where_the_data_was_drawn():
    policy = categorical_policy()
    batch = random_batch(policy, jax.random.key(1))
    plain, clipped = PolicyObjective(surrogate), PolicyObjective(surrogate).clipped(0.2)
    for expected, got in zip(
        gradient_of(plain, policy, batch), gradient_of(clipped, policy, batch), strict=True
    ):
        np.testing.assert_allclose(ravel(got), ravel(expected), atol=1e-6)


def test_every_objective_with_a_ratio_can_be_clipped_and_keeps_the_rest_of_itself():
    policy_objective = PolicyObjective(surrogate, 0.5)
    clipped = policy_objective.clipped(0.3)
    assert clipped.step_loss == Clipped(0.3)
    assert clipped.entropy_bonus == 0.5

    def auxiliary(prediction: Any, batch: Any) -> Any:
        del batch
        return prediction.sum()

    shared = ActorCriticObjective(policy_objective, 0.7, auxiliary).clipped(0.3)
    assert shared == ActorCriticObjective(clipped, 0.7, auxiliary)
    plain = adapted(policy_objective, GradientStep(), inner_objective=PolicyObjective(reinforce), chunk=2)
    assert plain.clipped(0.3) == eqx.tree_at(lambda o: o.outer, plain, clipped)
    # The inner steps minimise what they did before.
    assert plain.clipped(0.3).inner_objective.step_loss is reinforce


@pytest.mark.parametrize(
    "objective",
    [
        Bowl([0.0], [1.0]),
        Penalised(PolicyObjective(surrogate), jnp.ones(())),
        OffPolicyObjective("marginal"),
        adapted(Bowl([0.0], [1.0]), GradientStep()),
    ],
    ids=["bowl", "penalised", "off-policy", "adapted"],
)
def test_an_objective_without_a_ratio_says_that_it_cannot_be_clipped(objective: Any):
    with pytest.raises(UserError, match=r"no likelihood ratio to clip.*ppo-clip"):
        objective.clipped(0.2)


@POLICIES
def test_the_entropy_bonus_is_subtracted_from_the_loss(build: Any):
    policy = build()
    batch = random_batch(policy, jax.random.key(1))
    plain, bonus = PolicyObjective(surrogate), PolicyObjective(surrogate, 0.25)
    prediction = plain.predict(policy, batch)
    entropy = np.asarray(prediction.entropy())[np.asarray(batch.valid)].mean()
    expected = plain.loss(prediction, batch) - 0.25 * entropy
    np.testing.assert_allclose(bonus.loss(prediction, batch), expected, rtol=1e-5)
    assert bonus.divergence(prediction, prediction, batch) == 0.0
    assert abs(entropy) > 0.1


def judged(auxiliary: Any = None) -> tuple[Any, Batch]:
    """A policy with values, and a batch that says what they should be."""
    options = ActorCritic(hidden=(3,), output_scale=1.0, **({"auxiliary": auxiliary} if auxiliary else {}))
    policy = options.build(jax.random.key(0), OBSERVATION, Discrete(3))
    batch = random_batch(policy, jax.random.key(1))
    shape = batch.advantages.shape
    noise = jax.random.normal(jax.random.key(2), (4, *shape))
    following = jax.random.normal(jax.random.key(3), (*shape, OBSERVATION))
    return policy, replace(batch, transitions=Transitions(*noise, following))


def test_policy_value_and_auxiliary_losses_add_up():
    policy, batch = judged(PredictReward(weight=0.3))
    objective = ActorCriticObjective(PolicyObjective(surrogate, 0.1), 0.7, policy.auxiliary)
    prediction = objective.predict(policy, batch)
    valid = np.asarray(batch.valid)
    critic = (
        np.asarray((policy.values(batch.observations) - batch.transitions.returns) ** 2)[valid].mean() / 2
    )
    reward = np.asarray((prediction.auxiliary[..., 0] - batch.transitions.rewards) ** 2)[valid].mean() / 2
    actor = PolicyObjective(surrogate, 0.1).loss(policy(batch.observations), batch)
    expected = actor + 0.7 * critic + 0.3 * reward
    np.testing.assert_allclose(objective.loss(prediction, batch), expected, rtol=1e-5)
    without = ActorCriticObjective(PolicyObjective(surrogate, 0.1), 0.7)
    np.testing.assert_allclose(without.loss(prediction, batch), actor + 0.7 * critic, rtol=1e-5)
    assert min(critic, reward) > 0.1


def test_the_proximal_term_of_shared_values_is_their_mean_squared_change():
    policy, batch = judged()
    free = ActorCriticObjective(PolicyObjective(surrogate), 0.7)
    held = ActorCriticObjective(PolicyObjective(surrogate), 0.7, value_proximal=2.0)
    prediction = held.predict(policy, batch)
    change = np.asarray((prediction.values - batch.transitions.values) ** 2)[np.asarray(batch.valid)].mean()
    expected = free.loss(prediction, batch) + 2.0 * change
    np.testing.assert_allclose(held.loss(prediction, batch), expected, rtol=1e-5)
    assert change > 0.1
    assert held.clipped(0.2).value_proximal == 2.0


def test_the_divergence_of_an_actor_critic_is_that_of_its_actions_alone():
    policy, batch = judged()
    objective = ActorCriticObjective(PolicyObjective(surrogate))
    old = objective.predict(policy, batch)
    other_values = objective.predict(
        eqx.tree_at(lambda p: p.critic.biases[0], policy, jnp.full(1, 9.0)), batch
    )
    np.testing.assert_allclose(other_values.values, old.values + 9.0, rtol=1e-5)
    assert objective.divergence(old, other_values, batch) == 0.0
    bias = jnp.array([1.0, 0.0, -1.0])
    other = objective.predict(eqx.tree_at(lambda p: p.actor.network.biases[0], policy, bias), batch)
    expected = np.asarray(old.distribution.kl(other.distribution))[np.asarray(batch.valid)].mean()
    np.testing.assert_allclose(objective.divergence(old, other, batch), expected, rtol=1e-5)
    assert expected > 0.1


def test_a_penalised_loss_pays_for_the_divergence():
    bowl = Penalised(Bowl([0.0, 1.0], [1.0, 4.0]), jnp.array(3.0))
    # ½ · 9 + ½ · 4 · 1 for the loss at (3, 2), ½ (4 + 1) for the distance from (1, 1).
    batch = (None, jnp.ones(2))
    prediction = bowl.predict(Point(3.0, 2.0), batch)
    assert bowl.loss(prediction, batch) == 6.5 + 3.0 * 2.5
    assert bowl.divergence(jnp.ones(2), prediction, batch) == 2.5


def test_the_penalty_has_no_slope_at_the_old_policy_and_one_elsewhere(x64: None):
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    objective = PolicyObjective(surrogate)
    penalised = Penalised(objective, jnp.array(50.0))
    for old_policy, same in ((policy, True), (gaussian_policy(1), False)):
        pair = batch, eqx.filter_jit(old_policy)(batch.observations)
        loss, slope = gradient_of(penalised, policy, pair)
        expected_loss, expected = gradient_of(objective, policy, batch)
        assert np.allclose(loss, expected_loss) == same
        assert np.allclose(ravel(slope), ravel(expected), atol=1e-10) == same


@pytest.mark.parametrize(
    ("divergence", "factor"),
    [(0.0, 0.5), (0.0066, 0.5), (0.0067, 1.0), (0.01, 1.0), (0.0149, 1.0), (0.0151, 2.0), (9.0, 2.0)],
)
def test_the_price_doubles_where_the_divergence_was_far_above_its_target_and_halves_far_below(
    divergence: float, factor: float
):
    price = adaptive_kl_coefficient(jnp.array(3.0), jnp.array(divergence), 0.01)
    np.testing.assert_allclose(price, 3.0 * factor, rtol=1e-6)


def test_the_price_stays_within_its_limits():
    highest = adaptive_kl_coefficient(jnp.array(6e5), jnp.array(1.0), 0.01)
    lowest = adaptive_kl_coefficient(jnp.array(1.5e-6), jnp.array(0.0), 0.01)
    np.testing.assert_array_equal(np.float32([highest, lowest]), np.float32([1e6, 1e-6]))


def test_a_divergence_that_is_not_a_number_leaves_the_price():
    assert adaptive_kl_coefficient(jnp.array(3.0), jnp.array(jnp.nan), 0.01) == 3.0
