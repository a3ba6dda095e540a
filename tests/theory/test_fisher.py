"""The product with the Fisher matrix, against three matrices made in other ways."""

from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import fisher_matrix, flatten, kl_hessian
from support.samples import categorical_policy, gaussian_policy, random_batch, random_meta_batch
from surefoot.rules import GradientStep
from surefoot.theory.distributions import Categorical
from surefoot.theory.meta import adapted
from surefoot.theory.objectives import PolicyObjective, reinforce, surrogate
from surefoot.types import Batch

OBJECTIVE = PolicyObjective(surrogate)


def weighted_outer(jacobian: Any, metric: Any, valid: Any) -> np.ndarray:
    """The mean over valid steps of JᵀMJ."""
    weights = np.asarray(valid, float) / int(valid.sum())
    return np.einsum("et,etai,etab,etbj->ij", weights, jacobian, metric, jacobian)


def gaussian_scores(policy: Any, batch: Batch) -> np.ndarray:
    """E_a[∇log π ∇log πᵀ] by a Gauss–Hermite rule, exact here: the product has degree 4 in the action."""
    vector, build = flatten(policy)
    now = eqx.filter_jit(policy)(batch.observations)
    mean, std = np.asarray(now.mean), np.exp(now.log_std)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    score = jax.jit(jax.jacobian(lambda v, action: build(v)(batch.observations).log_prob(action)))
    total = np.zeros((len(vector), len(vector)))
    for pair in product(range(3), repeat=mean.shape[-1]):
        action = mean + std * nodes[list(pair)]
        one = np.ones((*batch.valid.shape, 1, 1))
        total += np.prod(weights[list(pair)]) * weighted_outer(
            score(vector, action)[..., None, :], one, batch.valid
        )
    return total


def categorical_scores(policy: Any, batch: Batch) -> np.ndarray:
    """E_a[∇log π ∇log πᵀ] by summing over the actions."""
    vector, build = flatten(policy)

    def log_probs(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = jax.nn.log_softmax(build(v)(batch.observations).logits)
        return value, value

    jacobian, value = jax.jit(jax.jacobian(log_probs, has_aux=True))(vector)
    probabilities = np.exp(value)
    metric = probabilities[..., None] * np.eye(probabilities.shape[-1])
    return weighted_outer(jacobian, metric, batch.valid)


KINDS = pytest.mark.parametrize(
    ("build", "scores"),
    [(gaussian_policy, gaussian_scores), (categorical_policy, categorical_scores)],
    ids=["gaussian", "categorical"],
)


@KINDS
def test_it_is_the_expected_outer_product_of_the_score_and_the_hessian_of_the_divergence(
    build: Any, scores: Any, x64: None
):
    policy = build()
    batch = random_batch(policy, jax.random.key(1))
    found, dense = fisher_matrix(OBJECTIVE, policy, batch), scores(policy, batch)
    np.testing.assert_allclose(found, dense, atol=1e-12)
    assert np.linalg.norm(dense) > 0.1
    np.testing.assert_allclose(found, kl_hessian(OBJECTIVE, policy, batch), atol=1e-12)


def every_action(policy: Any, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Actions at each step, and their probabilities; of a Gaussian those of a Gauss–Hermite rule, exact here:
    second derivatives of its log π have degree 2 in the action."""
    now = eqx.filter_jit(policy)(batch.observations)
    if isinstance(now, Categorical):
        probabilities = np.moveaxis(np.asarray(jax.nn.softmax(now.logits)), -1, 0)
        return np.broadcast_to(np.arange(3)[:, None, None], probabilities.shape), probabilities
    nodes, weights = np.polynomial.hermite_e.hermegauss(2)
    pairs = np.array(list(product(range(2), repeat=now.mean.shape[-1])))
    actions = np.asarray(now.mean) + np.exp(now.log_std) * nodes[pairs][:, None, None]
    chances = np.prod(weights[pairs] / weights.sum(), axis=-1)[:, None, None]
    return actions, np.broadcast_to(chances, actions.shape[:-1])


@pytest.mark.parametrize("build", [gaussian_policy, categorical_policy])
def test_it_is_minus_the_expected_hessian_of_the_log_likelihood(build: Any, x64: None):
    """And the mean of the gradient, the linear term of the divergence, is zero."""
    policy = build(hidden=(2,))
    batch = random_batch(policy, jax.random.key(1))
    vector, build_from = flatten(policy)
    actions, probabilities = every_action(policy, batch)
    weights = probabilities * np.asarray(batch.valid) / int(batch.valid.sum())

    def mean_log_likelihood(v: jax.Array) -> jax.Array:
        now = build_from(v)(batch.observations)
        return jnp.sum(weights * jax.vmap(now.log_prob)(actions))

    both = jax.jit(lambda v: (jax.grad(mean_log_likelihood)(v), jax.hessian(mean_log_likelihood)(v)))
    slope, hessian = both(vector)
    np.testing.assert_allclose(slope, np.zeros(len(vector)), atol=1e-12)
    np.testing.assert_allclose(fisher_matrix(OBJECTIVE, policy, batch), -hessian, atol=1e-12)


def test_away_from_the_old_policy_the_slope_times_the_network_s_hessians_is_added(x64: None):
    """Σ_i ∂d/∂f_i ∇²f_i, where the slope of a categorical's divergence is π − π_old in each logit, and its
    curvature M that of the new policy alone."""
    policy = categorical_policy(hidden=(2,))
    batch = random_batch(policy, jax.random.key(1))
    vector, build = flatten(policy)
    old = policy(batch.observations)

    def logits(v: jax.Array) -> jax.Array:
        return build(v)(batch.observations).logits

    @jax.jit
    def found(v: jax.Array) -> tuple[jax.Array, ...]:
        whole = jax.hessian(lambda v: OBJECTIVE.divergence(old, build(v)(batch.observations), batch))(v)
        return whole, fisher_matrix(OBJECTIVE, build(v), batch), logits(v), jax.hessian(logits)(v)

    for moved in (0.5, 0.0):
        whole, gauss_newton, now, curvatures = map(np.asarray, found(vector + moved))
        slope = jax.nn.softmax(now) - jax.nn.softmax(old.logits)
        slope = slope * np.asarray(batch.valid, float)[..., None] / int(batch.valid.sum())
        added = np.einsum("eta,etaij->ij", slope, curvatures)
        np.testing.assert_allclose(whole, gauss_newton + added, atol=1e-12)
        assert np.linalg.norm(added) > 0.01 if moved else np.allclose(added, 0.0, atol=1e-14)


def test_the_metric_of_a_gaussian_is_known_in_closed_form(x64: None):
    policy = gaussian_policy(initial_std=0.5)
    batch = random_batch(policy, jax.random.key(1))
    vector, build = flatten(policy)

    def outputs(v: jax.Array) -> jax.Array:
        now = build(v)(batch.observations)
        return jnp.concatenate([now.mean, now.log_std], axis=-1)

    # 1/σ² for each mean and 2 for each log standard deviation.
    metric = np.broadcast_to(np.diag([4.0, 4.0, 2.0, 2.0]), (*batch.valid.shape, 4, 4))
    expected = weighted_outer(jax.jit(jax.jacobian(outputs))(vector), metric, batch.valid)
    np.testing.assert_allclose(fisher_matrix(OBJECTIVE, policy, batch), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "steps", "first_order"),
    [(gaussian_policy, 1, False), (gaussian_policy, 2, True), (categorical_policy, 2, False)],
)
def test_through_an_adaptation_too(build: Any, steps: int, first_order: bool, x64: None):
    policy = build(actions=2, hidden=(2,))
    batch = random_meta_batch(policy, jax.random.key(1), tasks=2, steps=steps)
    # The Hessian is that of both tasks at a time, which compiles faster; the product takes them one by one.
    by_one, at_once = (
        adapted(
            OBJECTIVE,
            GradientStep(lr=0.3),
            inner_objective=PolicyObjective(reinforce),
            first_order=first_order,
            chunk=chunk,
        )
        for chunk in (1, 2)
    )
    expected = kl_hessian(at_once, policy, batch)
    np.testing.assert_allclose(fisher_matrix(by_one, policy, batch), expected, atol=1e-11)
    as_one_task = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch.query)
    assert np.linalg.norm(expected - fisher_matrix(OBJECTIVE, policy, as_one_task)) > 1e-3
