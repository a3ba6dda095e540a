from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import compared, fisher_matrix, gradient_of, identical, ravel
from support.probes import Bowl, Point
from support.samples import categorical_policy, gaussian_policy, random_batch
from surefoot.options import UserError
from surefoot.rules import TrustRegion
from surefoot.theory.objectives import PolicyObjective, surrogate

OBJECTIVE = PolicyObjective(surrogate)


@eqx.filter_jit
def step(rule: TrustRegion, objective: Any, policy: Any, batch: Any) -> Any:
    return rule.step(objective, policy, batch, rule.init(policy))


def test_a_step_by_hand():
    # The gradient at (3, 2) is (3, 4) and the Fisher matrix the identity: a step of length √(2 · 0.02) = 0.2.
    rule = TrustRegion(max_kl=0.02, damping=0.0)
    start = Point(3.0, 2.0)
    policy, state, metrics = step(rule, Bowl([0.0, 1.0], [1.0, 4.0]), start, jnp.zeros(1))
    np.testing.assert_allclose(policy.x, [3 - 0.12, 2 - 0.16], rtol=1e-3)
    assert policy.label == 7
    assert not identical(state, rule.init(start))
    assert metrics["loss"] == 6.5
    assert metrics["loss_after"] < 6.5
    assert metrics["kl"] <= 0.02
    assert metrics["step_accepted"] == 1.0


@pytest.mark.parametrize(("build", "max_kl"), [(gaussian_policy, 0.01), (categorical_policy, 0.1)])
def test_the_divergence_stays_within_its_bound_and_the_loss_falls(build: object, max_kl: float):
    policy = build()
    batch = random_batch(policy, jax.random.key(1))
    rule = TrustRegion(max_kl=max_kl)
    new, _, metrics = step(rule, OBJECTIVE, policy, batch)
    _, new_loss, kl = compared(OBJECTIVE, policy, new, batch)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-3, atol=1e-6)
    assert 0 < kl <= max_kl * (1 + 1e-3)
    np.testing.assert_allclose(metrics["loss_after"], new_loss, rtol=1e-4)
    assert metrics["loss_after"] < metrics["loss"]
    assert metrics["step_accepted"] == 1.0


@pytest.mark.parametrize(("ratio", "end"), [(0.5, -0.5), (0.25, 0.25)])
def test_a_step_that_leads_too_far_is_shortened(ratio: float, end: float):
    """The full step has the length √(2 · 4.5) = 3 and leads from 1 to −2, where the loss is higher."""
    rule = TrustRegion(max_kl=4.5, damping=0.0, backtrack_ratio=ratio)
    start = Point(1.0)
    policy, _, metrics = step(rule, Bowl([0.0], [1.0]), start, jnp.zeros(1))
    np.testing.assert_allclose(policy.x, [end], rtol=1e-5)
    assert metrics["line_search_attempts"] == 2.0


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_gradient_that_is_not_finite_is_refused(bad: float):
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    batch = eqx.tree_at(lambda b: b.advantages, batch, batch.advantages.at[0, 0].set(bad))
    rule = TrustRegion(max_kl=0.01)
    new, _, metrics = step(rule, OBJECTIVE, policy, batch)
    assert identical(new, policy)
    assert metrics["step_accepted"] == 0.0
    assert metrics["kl"] == 0.0
    assert not jnp.isfinite(metrics["loss"])


def test_without_a_gradient_the_policy_stays():
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    batch = eqx.tree_at(lambda b: b.advantages, batch, jnp.zeros_like(batch.advantages))
    rule = TrustRegion(max_kl=0.01)
    new, _, metrics = step(rule, OBJECTIVE, policy, batch)
    assert identical(new, policy)
    assert metrics["step_accepted"] == 0.0
    assert metrics["cg_iterations"] == 0.0


def test_the_fisher_matrix_can_be_taken_from_a_part_of_the_batch():
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1), episodes=4)
    part = TrustRegion(fisher_fraction=0.5)._fisher_part(batch, jax.random.key(0))
    assert part.observations.shape == (2, 4, 2)
    rows = [np.flatnonzero([np.array_equal(one, o) for o in batch.observations]) for one in part.observations]
    assert len({int(row[0]) for row in rows}) == 2
    for i, row in enumerate(rows):
        assert identical(
            jax.tree.map(lambda x, i=i: x[i], part), jax.tree.map(lambda x, row=row: x[int(row[0])], batch)
        )


def test_the_part_changes_from_step_to_step_and_is_never_empty():
    batch = jnp.arange(10)
    some = TrustRegion(fisher_fraction=0.3)
    parts = [tuple(np.sort(some._fisher_part(batch, jax.random.key(k))).tolist()) for k in range(4)]
    assert all(len(set(part)) == 3 for part in parts)
    assert len(set(parts)) > 1
    assert TrustRegion(fisher_fraction=0.01)._fisher_part(batch, jax.random.key(0)).shape == (1,)
    assert TrustRegion(fisher_fraction=1.0)._fisher_part(batch, jax.random.key(0)) is batch


def test_the_part_of_a_large_batch_has_no_step_twice():
    """Where size times size is beyond 32 bits."""
    part = TrustRegion(fisher_fraction=0.5)._fisher_part(jnp.arange(131_072), jax.random.key(0))
    assert len(np.unique(part)) == 65_536


def test_only_the_direction_is_taken_from_the_part(x64: None):
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1), episodes=4)
    rule = TrustRegion(fisher_fraction=0.5, damping=0.1, cg_iterations=60, cg_tolerance=1e-10, max_kl=1e-4)
    new, _, metrics = step(rule, OBJECTIVE, policy, batch)
    loss, gradient = gradient_of(OBJECTIVE, policy, batch)
    part = rule._fisher_part(batch, jax.random.split(rule.init(policy))[1])
    fisher = fisher_matrix(OBJECTIVE, policy, part)
    direction = -np.linalg.solve(fisher + 0.1 * np.eye(len(fisher)), ravel(gradient))
    move = np.asarray(ravel(new) - ravel(policy))
    cosine = move @ direction / np.linalg.norm(move) / np.linalg.norm(direction)
    np.testing.assert_allclose(cosine, 1.0, rtol=1e-8)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-12)
    kl = compared(OBJECTIVE, policy, new, batch)[2]
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_kl": 0.0}, "max-kl is 0.0; it must be a positive number"),
        ({"max_kl": float("nan")}, "max-kl is nan"),
        ({"cg_iterations": 0}, "cg-iterations is 0; it must be 1 or more"),
        ({"cg_tolerance": -1.0}, "cg-tolerance is -1.0; it must be 0 or more"),
        ({"damping": -1.0}, "damping is -1.0; it must be 0 or more"),
        ({"backtrack_ratio": 1.0}, "backtrack-ratio is 1.0; it must be above 0 and below 1"),
        ({"max_backtracks": -1}, "max-backtracks is -1; it must be 0 or more"),
        ({"fisher_fraction": 0.0}, "fisher-fraction is 0.0; it must be above 0 and at most 1"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        TrustRegion(**options)


def test_the_part_has_steps_and_padding_in_proportion():
    batch = random_batch(gaussian_policy(), jax.random.key(1))
    steps = jax.tree.map(lambda x: jnp.repeat(x.reshape(-1, *x.shape[2:])[:1], 1000, axis=0), batch)
    valid = jax.random.permutation(jax.random.key(2), jnp.arange(1000) < 30)
    steps = replace(steps, valid=valid)
    rule = TrustRegion(fisher_fraction=0.1)
    for seed in range(5):
        part = rule._fisher_part(steps, jax.random.key(seed))
        assert part.valid.shape == (100,)
        assert int(part.valid.sum()) == 3
