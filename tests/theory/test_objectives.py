from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, gradient_of, ravel
from support.samples import categorical_policy, gaussian_policy, random_batch
from surefoot.theory.objectives import PolicyObjective, reinforce, surrogate

POLICIES = pytest.mark.parametrize("build", [gaussian_policy, categorical_policy])


def hessian(objective: PolicyObjective, policy: Any, batch: Any) -> jax.Array:
    vector, build = flatten(policy)
    return jax.jit(jax.hessian(lambda v: objective.loss(objective.predict(build(v), batch), batch)))(vector)


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
    assert jnp.linalg.norm(ravel(ratio)) > 0.01
    # ∇²ρ = ∇²log π + (∇log π)(∇log π)ᵀ where ρ = 1: the outer product is what they differ by.
    vector, rebuild = flatten(policy)
    score = jax.jit(jax.jacobian(lambda v: rebuild(v)(batch.observations).log_prob(batch.actions)))(vector)
    weights = np.where(batch.valid, batch.advantages, 0.0) / int(batch.valid.sum())
    expected = -np.einsum("et,eti,etj->ij", weights, score, score)
    difference = hessian(PolicyObjective(surrogate), policy, batch) - hessian(
        PolicyObjective(reinforce), policy, batch
    )
    np.testing.assert_allclose(difference, expected, atol=1e-10)
    assert np.linalg.norm(expected) > 0.01


@POLICIES
def test_divergence_and_its_slope_are_zero_at_the_old_policy(build: Any, x64: None):
    policy = build()
    objective = PolicyObjective(surrogate)
    batch = random_batch(policy, jax.random.key(1))
    old = objective.predict(policy, batch)
    vector, rebuild = flatten(policy)

    def divergence(v: jax.Array) -> jax.Array:
        return objective.divergence(old, objective.predict(rebuild(v), batch), batch)

    value, slope = jax.jit(jax.value_and_grad(divergence))(vector)
    np.testing.assert_allclose(value, 0, atol=1e-15)
    np.testing.assert_allclose(slope, 0, atol=1e-14)
    assert divergence(vector + 0.1) > 1e-4


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
