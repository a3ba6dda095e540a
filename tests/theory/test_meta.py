"""Derivatives through an adaptation, against finite differences and against loops written out."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import compared, flatten, gradient_of, identical, ravel, value_and_central_difference
from support.samples import categorical_policy, gaussian_policy, random_batch, random_meta_batch
from surefoot.rules import GradientStep
from surefoot.theory.dice import DiceObjective
from surefoot.theory.fisher import fisher_vector_product
from surefoot.theory.meta import adapt, adapted, inner_step
from surefoot.theory.objectives import (
    AbstractObjective,
    OnPart,
    PolicyObjective,
    loss_and_gradient,
    reinforce,
    surrogate,
)

OUTER = PolicyObjective(surrogate)
LOSSES = {"reinforce": PolicyObjective(reinforce), "surrogate": PolicyObjective(surrogate)}
INNER = GradientStep(lr=0.3)


adapt_with = eqx.filter_jit(lambda *given: adapt(*given)[-1])


def loss_of(objective: Any, policy: Any, batch: Any) -> jax.Array:
    return objective.loss(objective.predict(policy, batch), batch)


def gradient_step(objective: Any, policy: Any, batch: Any, rate: Any) -> Any:
    """θ − α∇L(θ), by nothing but jax.grad on flat vectors."""
    vector, build = flatten(policy)
    return build(vector - rate * jax.grad(lambda v: loss_of(objective, build(v), batch))(vector))


step_with = eqx.filter_jit(gradient_step)


def task(batch: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], batch)


@pytest.mark.parametrize(
    ("build", "loss", "steps"),
    [
        (gaussian_policy, "reinforce", 1),
        (gaussian_policy, "surrogate", 2),
        (categorical_policy, "reinforce", 2),
    ],
)
def test_the_second_order_gradient_is_that_of_the_loss_after_adaptation(
    build: Any, loss: str, steps: int, x64: None
):
    policy = build(actions=2, hidden=(2,))
    batch = random_meta_batch(policy, jax.random.key(1), tasks=2, steps=steps)
    objective = adapted(OUTER, INNER, inner_objective=LOSSES[loss])
    value, gradient = gradient_of(objective, policy, batch)
    vector, build_from = flatten(policy)

    def by_hand(v: jax.Array) -> jax.Array:
        def on_task(one: Any) -> jax.Array:
            mine = build_from(v)
            for support in one.support:
                mine = gradient_step(LOSSES[loss], mine, support, 0.3)
            return loss_of(OUTER, mine, one.query)

        return jax.vmap(on_task)(batch).mean()

    expected_value, expected = value_and_central_difference(by_hand, vector)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(ravel(gradient), expected, atol=1e-8)


@pytest.mark.parametrize(("loss", "steps"), [("reinforce", 1), ("surrogate", 2)])
def test_the_first_order_gradient_is_that_of_the_loss_at_a_frozen_displacement(
    loss: str, steps: int, x64: None
):
    """With dθ'/dθ = 1, task i's loss is differentiated as that of θ + D_i, where D_i = θ'_i − θ is what the
    inner steps added at the point where the gradient is taken, and no longer depends on θ. Successive steps
    add successive displacements, all frozen, so one D_i holds them all."""
    policy = gaussian_policy(actions=2, hidden=(2,))
    batch = random_meta_batch(policy, jax.random.key(1), tasks=2, steps=steps)
    objective = adapted(OUTER, INNER, inner_objective=LOSSES[loss], first_order=True)
    value, gradient = gradient_of(objective, policy, batch)
    vector, build = flatten(policy)
    displacements = jnp.stack(
        [ravel(adapt_with(LOSSES[loss], INNER, policy, task(batch, i).support)) - vector for i in (0, 1)]
    )

    def frozen(v: jax.Array) -> jax.Array:
        return jax.vmap(lambda d, one: loss_of(OUTER, build(v + d), one))(displacements, batch.query).mean()

    expected_value, expected = value_and_central_difference(frozen, vector)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(ravel(gradient), expected, atol=1e-8)


def test_the_orders_differ_by_the_inner_hessian_times_the_outer_gradient(x64: None):
    policy = gaussian_policy(actions=2, hidden=(2,))
    batch = random_meta_batch(policy, jax.random.key(1), tasks=1)
    vector, build = flatten(policy)
    support = task(batch, 0).support[0]
    gradients = {}
    for loss in LOSSES:
        values = {}
        for first_order in (False, True):
            objective = adapted(OUTER, INNER, inner_objective=LOSSES[loss], first_order=first_order)
            values[first_order], gradient = gradient_of(objective, policy, batch)
            gradients[loss, first_order] = np.asarray(ravel(gradient))
        np.testing.assert_array_equal(values[False], values[True])
        # d/dθ L(θ − α∇l(θ)) = (1 − α∇²l) ∇L(θ').
        hessian = jax.jit(jax.hessian(lambda v, loss=loss: loss_of(LOSSES[loss], build(v), support)))(vector)
        expected = -0.3 * np.asarray(hessian) @ gradients[loss, True]
        np.testing.assert_allclose(gradients[loss, False] - gradients[loss, True], expected, atol=1e-12)
        assert np.linalg.norm(expected) > 1e-3
    # The inner losses agree in first order and not in second.
    np.testing.assert_allclose(gradients["reinforce", True], gradients["surrogate", True], atol=1e-12)
    assert np.linalg.norm(gradients["reinforce", False] - gradients["surrogate", False]) > 1e-3


def test_each_task_takes_its_second_step_from_its_own_first(x64: None):
    policy = gaussian_policy(actions=2, hidden=(2,))
    batch = random_meta_batch(policy, jax.random.key(1), tasks=3, steps=2)
    prediction = eqx.filter_jit(adapted(OUTER, INNER, chunk=1).predict)(policy, batch)

    def step(policy: Any, batch: Any) -> Any:
        return step_with(OUTER, policy, batch, jnp.array(0.3))

    once = [step(policy, task(batch, i).support[0]) for i in range(3)]
    for i in range(3):
        mine, observations = task(batch, i), batch.query.observations[i]
        expected = step(once[i], mine.support[1])(observations)
        np.testing.assert_allclose(prediction.query.mean[i], expected.mean, atol=1e-12)
        np.testing.assert_allclose(prediction.query.log_std[i], expected.log_std, atol=1e-12)
        from_another = step(once[(i + 1) % 3], mine.support[1])(observations)
        assert jnp.abs(from_another.mean - expected.mean).max() > 1e-3


@eqx.filter_jit
def everything_about(objective: Any, policy: Any, batch: Any) -> list[Any]:
    loss, gradient = loss_and_gradient(objective, policy, batch)
    moved = jax.tree.map(lambda x: 1.1 * x, eqx.filter(policy, eqx.is_inexact_array))
    product = fisher_vector_product(objective, policy, batch, moved)
    return [loss, ravel(gradient), ravel(product), *jax.tree.leaves(objective.predict(policy, batch))]


def test_nothing_depends_on_the_chunk(x64: None):
    policy = gaussian_policy(actions=1, hidden=())
    batch = random_meta_batch(policy, jax.random.key(1), tasks=5)
    whole = everything_about(adapted(OUTER, INNER, chunk=5), policy, batch)
    for chunk in (1, 2):
        parts = everything_about(adapted(OUTER, INNER, chunk=chunk), policy, batch)
        for got, expected in zip(parts, whole, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-12)


def test_each_tasks_results_are_those_it_has_alone(x64: None):
    policy = gaussian_policy(actions=1, hidden=())
    batch = random_meta_batch(policy, jax.random.key(1), tasks=5)
    objective = adapted(OUTER, INNER, chunk=5)
    together = everything_about(objective, policy, batch)
    alone = [
        everything_about(objective, policy, jax.tree.map(lambda x, i=i: x[i : i + 1], batch))
        for i in range(5)
    ]
    for k in (0, 1, 2):
        np.testing.assert_allclose(together[k], np.mean([one[k] for one in alone], axis=0), atol=1e-12)
    for k in (3, 4):
        np.testing.assert_allclose(together[k], np.concatenate([one[k] for one in alone]), atol=1e-12)


def test_tasks_count_equally_however_few_their_valid_steps(x64: None):
    policy = gaussian_policy()
    batch = random_meta_batch(policy, jax.random.key(1), tasks=2)
    only_one = jnp.zeros_like(batch.query.valid[0]).at[0, 0].set(True)
    batch = eqx.tree_at(lambda b: b.query.valid, batch, batch.query.valid.at[0].set(only_one))
    after = eqx.filter_jit(lambda p, one: loss_of(OUTER, adapt(OUTER, INNER, p, one.support)[-1], one.query))
    each = [after(policy, task(batch, i)) for i in (0, 1)]
    loss = eqx.filter_jit(loss_of)(adapted(OUTER, INNER, chunk=2), policy, batch)
    np.testing.assert_allclose(loss, (each[0] + each[1]) / 2, rtol=1e-12)


@pytest.mark.parametrize("kind", ["adapted", "dice", "on part"])
def test_the_divergence_is_from_the_old_policies_to_the_new(kind: str, x64: None):
    """The KL of normal distributions with the same mean: log(σ'/σ) + σ²/2σ'² − ½ for each of two actions."""
    policy = gaussian_policy()
    wider = eqx.tree_at(lambda p: p.raw_log_std, policy, policy.raw_log_std + 1.0)
    batch = random_meta_batch(policy, jax.random.key(1), tasks=2)
    objectives: dict[str, AbstractObjective] = {
        "adapted": adapted(OUTER, GradientStep(lr=0.0), chunk=2),
        "dice": DiceObjective(),
        "on part": OnPart(OUTER, eqx.filter(policy, False)),
    }
    data = batch if kind == "adapted" else task(batch, 0).query
    for old, new, log_ratio in ((policy, wider, 1.0), (wider, policy, -1.0)):
        divergence = compared(objectives[kind], old, new, data)[2]
        expected = 2 * (log_ratio + 0.5 * np.exp(-2 * log_ratio) - 0.5)
        np.testing.assert_allclose(divergence, expected, rtol=1e-4)


def test_each_inner_step_has_its_own_rate(x64: None):
    policy = gaussian_policy()
    support = tuple(random_batch(policy, jax.random.key(k)) for k in range(3))
    got = adapt_with(OUTER, GradientStep(lr=(0.5, 0.1)), policy, support)
    expected = policy
    for batch, rate in zip(support, (0.5, 0.1, 0.1), strict=True):
        expected = step_with(OUTER, expected, batch, jnp.array(rate))
    np.testing.assert_allclose(ravel(got), ravel(expected), atol=1e-12)


def test_first_order_changes_no_value():
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    take = eqx.filter_jit(inner_step)
    steps = [
        take(OUTER, INNER, policy, batch, INNER.init(policy), first_order=flag) for flag in (False, True)
    ]
    assert identical(steps[0], steps[1])
    assert not identical(steps[0][0], policy)


def test_the_outer_objective_is_the_inner_one_unless_told_otherwise():
    assert adapted(OUTER, INNER).inner_objective is OUTER
    assert adapted(OUTER, INNER, inner_objective=LOSSES["reinforce"]).inner_objective is LOSSES["reinforce"]
