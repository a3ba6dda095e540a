"""Tests of every rule, on a plain objective and on an adapted one."""

import inspect
from dataclasses import replace
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import compared, identical, ravel
from support.rules import RULES
from support.samples import as_streams, categorical_policy, random_batch, random_meta_batch
from surefoot import rules
from surefoot.options import UserError
from surefoot.policies import GRU
from surefoot.rules import AbstractRule, GradientStep, TrustRegion
from surefoot.theory.meta import adapted
from surefoot.theory.objectives import PolicyObjective, loss_and_gradient, reinforce, surrogate
from surefoot.types import Batch, Discrete

EVERY = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
OBJECTIVE = PolicyObjective(surrogate)
ADAPTED = adapted(OBJECTIVE, GradientStep(lr=0.1), inner_objective=PolicyObjective(reinforce), chunk=2)


@cache
def problem(meta: bool) -> tuple[Any, Any, Any]:
    """An objective, a policy and a batch."""
    policy = categorical_policy(actions=2, hidden=(2,))
    if meta:
        return ADAPTED, policy, random_meta_batch(policy, jax.random.key(1), tasks=4)
    batch = random_batch(policy, jax.random.key(1), episodes=6)
    return OBJECTIVE, policy, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


STEPS = 5


@eqx.filter_jit
def improve(rule: AbstractRule, objective: Any, policy: Any, batch: Any) -> Any:
    """The policies after each of five steps, and the steps' metrics."""
    parameters, static = eqx.partition(policy, eqx.is_array)

    def turn(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Any]:
        policy, state, metrics = rule.step(objective, eqx.combine(carry[0], static), batch, carry[1])
        parameters = eqx.filter(policy, eqx.is_array)
        return (parameters, state), (parameters, metrics)

    _, (policies, metrics) = jax.lax.scan(turn, (parameters, rule.init(policy)), length=STEPS)
    return eqx.combine(policies, static), metrics


def after(policies: Any, step: int) -> Any:
    return jax.tree.map(lambda x: x[step], policies)


@cache
def recurrent_problem() -> tuple[Any, Batch]:
    """A policy that remembers, and rows in which episodes begin and after which there may be padding."""
    policy = GRU(units=3, output_scale=1.0).build(jax.random.key(0), 2, Discrete(3))
    starts = np.zeros((6, 4), bool)
    starts[::2, 1] = starts[1, 0] = starts[4, 3] = True
    memory = jax.random.normal(jax.random.key(2), (6, 3))
    batch = random_batch(policy, jax.random.key(1), episodes=6)
    return policy, as_streams(policy, batch, jnp.asarray(starts), memory)


def test_none_is_forgotten():
    exported = {x for x in vars(rules).values() if inspect.isclass(x) and issubclass(x, AbstractRule)}
    assert {type(rule) for rule in RULES.values()} == exported - {AbstractRule}


@EVERY
@pytest.mark.parametrize("meta", [False, True], ids=["plain", "adapted"])
def test_steps_lower_the_loss(rule: AbstractRule, meta: bool):
    objective, policy, batch = problem(meta)
    policies, metrics = improve(rule, objective, policy, batch)
    last = after(policies, -1)
    old_loss, new_loss, _ = compared(objective, policy, last, batch)
    np.testing.assert_allclose(metrics["loss"][0], old_loss, rtol=1e-4)
    assert new_loss < old_loss - 0.002
    assert all(np.isfinite(value).all() and value.shape == (STEPS,) for value in metrics.values())
    assert np.abs(ravel(last) - ravel(policy)).max() > 1e-3


@pytest.mark.parametrize("name", ["trust region by penalty", "proximal by clip", "proximal by penalty"])
@pytest.mark.parametrize("meta", [False, True], ids=["plain", "adapted"])
def test_what_is_said_after_the_step_is_true_of_the_new_policy(name: str, meta: bool):
    objective, policy, batch = problem(meta)
    policies, metrics = improve(RULES[name], objective, policy, batch)
    _, loss, divergence = compared(objective, policy, after(policies, 0), batch)
    np.testing.assert_allclose(metrics["loss_after"][0], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"][0], divergence, rtol=1e-3, atol=1e-7)


@EVERY
def test_as_an_inner_rule_it_can_be_differentiated_where_a_gradient_is_zero(rule: AbstractRule):
    """A feature is never seen, one task's advantages are zero: square roots have no derivative at zero."""
    policy = categorical_policy(actions=2, hidden=())
    batch = random_meta_batch(policy, jax.random.key(1), tasks=2, episodes=6)
    (support,) = batch.support
    seen = support.observations.at[..., 1].set(0.0)
    support = replace(support, observations=seen, advantages=support.advantages.at[0].set(0.0))
    objective = adapted(OBJECTIVE, rule)
    gradient = eqx.filter_jit(loss_and_gradient)(objective, policy, replace(batch, support=(support,)))[1]
    assert np.isfinite(ravel(gradient)).all()
    assert np.abs(ravel(gradient)).max() > 1e-3


@EVERY
def test_a_policy_that_remembers_learns_from_its_rows_and_not_from_their_padding(rule: AbstractRule):
    policy, batch = recurrent_problem()
    valid = batch.valid
    policies, metrics = improve(rule, OBJECTIVE, policy, batch)
    new = after(policies, 0)
    # Every ratio is one before the step.
    np.testing.assert_allclose(metrics["loss"][0], -np.mean(batch.advantages, where=valid), rtol=1e-4)
    _, loss, divergence = compared(OBJECTIVE, policy, new, batch)
    assert loss < metrics["loss"][0] - 0.002
    bound = rule.max_kl if isinstance(rule, TrustRegion) else 0.2
    assert 1e-5 < divergence <= bound * (1 + 1e-3)
    soiled = replace(
        batch,
        observations=jnp.where(valid[..., None], batch.observations, 50.0),
        actions=jnp.where(valid, batch.actions, 2 - batch.actions),
        log_probs=jnp.where(valid, batch.log_probs, -9.0),
        advantages=jnp.where(valid, batch.advantages, -1e6),
        starts=jnp.where(valid, batch.starts, ~batch.starts),
    )
    other, _ = improve(rule, OBJECTIVE, policy, soiled)
    np.testing.assert_allclose(ravel(after(other, 0)), ravel(new), atol=1e-6)


@EVERY
def test_the_same_step_is_the_same_to_the_last_bit(rule: AbstractRule):
    objective, policy, batch = problem(False)
    first, again = (improve(rule, objective, policy, batch) for _ in range(2))
    assert identical(first, again)


@EVERY
def test_steps_of_no_order_are_refused_for_a_policy_that_remembers(rule: AbstractRule):
    objective, _, batch = problem(meta=False)
    policy = GRU(units=2).build(jax.random.key(0), batch.observations.shape[-1], Discrete(2))
    with pytest.raises(UserError, match="learns from sequences"):
        jax.eval_shape(lambda: rule.step(objective, policy, batch, rule.init(policy))[2])
