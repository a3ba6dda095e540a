"""Reptile: its gradient by hand, as a pooled policy gradient, and its divergence."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import compared, fisher_matrix, flatten, gradient_of, kl_hessian, ravel
from support.probes import Target
from support.samples import categorical_policy, random_meta_batch
from support.settings import iterate, policy_for, setting_of
from surefoot.algorithms import Reptile, adapt_to_tasks, policy_objective
from surefoot.algorithms.reptile import DistanceToAdapted
from surefoot.options import UserError
from surefoot.rules import GradientStep, PPOClip, PPOPenalty, TrustRegion
from surefoot.theory.meta import inner_step
from surefoot.theory.objectives import PolicyObjective, reinforce

KEY = jax.random.key(5)
INNER = GradientStep(lr=0.3)
LOSS = PolicyObjective(reinforce)


@eqx.filter_jit
def prepared(objective: DistanceToAdapted, policy: Any, batch: Any) -> Any:
    return replace(batch, prepared=objective.prepare(policy, batch, jnp.zeros((3, 3))))


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_the_gradient_is_the_mean_displacement(chunk: int, x64: None):
    """θ − θ'_i of two inner steps taken one after another, at the policy that drew the data; elsewhere the
    adapted policies stay where they were."""
    policy = categorical_policy()
    batch = random_meta_batch(policy, jax.random.key(1), tasks=3, steps=2)
    objective = DistanceToAdapted(LOSS, INNER, chunk)
    batch = prepared(objective, policy, batch)
    ends = []
    for i in range(3):
        adapted, state = policy, INNER.init(policy)
        for support in batch.support:
            one = jax.tree.map(lambda x, i=i: x[i], support)
            adapted, state = inner_step(LOSS, INNER, adapted, one, state)
        ends.append(ravel(adapted))
    moved = jax.tree.map(lambda x: x + 0.2 if eqx.is_inexact_array(x) else x, policy)
    for at in (policy, moved):
        displacements = ravel(at) - jnp.stack(ends)
        loss, gradient = gradient_of(objective, at, batch)
        np.testing.assert_allclose(ravel(gradient), displacements.mean(0), atol=1e-12)
        np.testing.assert_allclose(loss, 0.5 * (displacements**2).sum(1).mean(), rtol=1e-12)


def test_the_displacement_of_two_steps_holds_the_hessian_of_the_second_times_the_first_gradient(x64: None):
    """(θ' − θ) / α = −g_0(θ) − g_1(θ − α g_0), which at a small α is −g_0 − g_1 + α H_1 g_0 but for terms of
    α². With both steps on one batch it is −2 g_0 + α H_0 g_0."""
    policy = categorical_policy(hidden=())
    sampled = random_meta_batch(policy, jax.random.key(1), tasks=2, steps=1)
    vector, build = flatten(policy)

    @jax.jit
    @jax.vmap
    def derivatives(one: Any) -> tuple[jax.Array, jax.Array]:
        def loss(v: jax.Array) -> jax.Array:
            return LOSS.loss(LOSS.predict(build(v), one), one)

        return jax.grad(loss)(vector), jax.hessian(loss)(vector)

    # Both tasks take their first step on batch 0, and the second on 1 or on 0.
    steps = [jax.tree.map(lambda x, i=i: x[jnp.array(i)], sampled.support[0]) for i in ([0, 0], [1, 0])]
    gradients, hessians = map(np.asarray, derivatives(sampled.support[0]))
    slope, curvature = -gradients[0] - gradients[[1, 0]], hessians[[1, 0]] @ gradients[0]
    objective = DistanceToAdapted(LOSS, GradientStep(lr=1e-4), 2)
    adapted = prepared(objective, policy, replace(sampled, support=tuple(steps))).prepared["adapted"]
    found = (jax.vmap(ravel)(adapted) - vector) / 1e-4
    np.testing.assert_allclose(found - slope, 1e-4 * curvature, rtol=0, atol=1e-7 * np.abs(curvature).max())
    assert np.abs(curvature[0] - curvature[1]).max() > 0.1 * np.abs(curvature).max()


def test_with_one_inner_step_it_is_a_pooled_policy_gradient_step():
    """Of the length ε α, on the data of all tasks before adaptation."""
    setting = setting_of(Target(spread=1.0), episodes=4)
    algorithm = Reptile(INNER, GradientStep(lr=0.5), inner_steps=1, tasks=3, chunk=2)
    state = algorithm.init(setting, policy_for(setting, output_scale=1.0), KEY)
    following, metrics = iterate(algorithm, setting, state, KEY)
    task_key, rollout_key = jax.random.split(KEY)
    tasks = setting.sampler.env.sample_tasks(task_key, 3)
    adapter = algorithm.adapter(setting.estimator, state)
    data = adapt_to_tasks(setting.sampler, adapter, state.policy, tasks, rollout_key, 1).batches[0]
    pooled = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), data)
    expected, _, _ = GradientStep(lr=0.5 * 0.3).step(
        policy_objective("reinforce"), state.policy, pooled, jnp.zeros((), jnp.int32)
    )
    np.testing.assert_allclose(ravel(following.policy), ravel(expected), atol=1e-6)
    assert float(jnp.abs(ravel(expected) - ravel(state.policy)).max()) > 1e-3
    assert metrics["loss"] > 0


def test_the_divergence_is_that_of_the_policy_before_adaptation(x64: None):
    policy = categorical_policy()
    batch = random_meta_batch(policy, jax.random.key(1), tasks=3)
    objective = DistanceToAdapted(LOSS, INNER, 2)
    batch = prepared(objective, policy, batch)
    moved = jax.tree.map(lambda x: x + 0.2 if eqx.is_inexact_array(x) else x, policy)
    support = batch.support[0]
    each = jax.vmap(lambda old, new, one: LOSS.divergence(old, new, one))
    expected = jnp.mean(each(policy(support.observations), moved(support.observations), support))
    np.testing.assert_allclose(compared(objective, policy, moved, batch)[2], expected, rtol=1e-12)
    curvature = kl_hessian(objective, policy, batch)
    np.testing.assert_allclose(fisher_matrix(objective, policy, batch), curvature, atol=1e-10)


@pytest.mark.parametrize("outer", [TrustRegion(), PPOPenalty(minibatches=1, epochs=2)], ids=["trpo", "ppo"])
def test_other_outer_rules_lower_the_distance(outer: Any):
    """Whose targets are constants of the batch, so that rules of several steps may have any inner loss."""
    setting = setting_of(Target(spread=1.0), episodes=4)
    algorithm = Reptile(INNER, outer, inner_steps=1, tasks=3)
    state = algorithm.init(setting, policy_for(setting, output_scale=1.0), KEY)
    _, metrics = iterate(algorithm, setting, state, KEY)
    assert metrics["loss_after"] < metrics["loss"]
    assert metrics["kl"] > 0


def test_what_reptile_has_no_use_for_is_refused():
    setting = setting_of(Target())
    policy = policy_for(setting)
    with pytest.raises(UserError, match="of first order does not contain"):
        Reptile(INNER, inner_loss="dice").init(setting, policy, KEY)
    algorithm = Reptile(INNER, PPOClip(minibatches=1))
    state = algorithm.init(setting, policy, KEY)
    with pytest.raises(UserError, match="distance of parameters"):
        iterate(algorithm, setting, state, KEY)
