from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical
from support.probes import Bowl, Point
from surefoot.options import UserError
from surefoot.rules import ProjectedGradient


def bowl() -> Bowl:
    """Its gradient at (3, 2) is (3, 4)."""
    return Bowl([0.0, 1.0], [1.0, 4.0])


@eqx.filter_jit
def step(rule: ProjectedGradient, objective: Any, policy: Any) -> Any:
    return rule.step(objective, policy, None, rule.init(policy))


def test_a_step_within_the_ball_is_a_gradient_step():
    policy, _, metrics = step(
        ProjectedGradient(lr=0.1, radius=9.0, gradient_steps=1), bowl(), Point(3.0, 2.0)
    )
    np.testing.assert_allclose(policy.x, [2.7, 1.6], rtol=1e-6)
    assert policy.label == 7
    assert metrics["loss"] == 6.5
    assert metrics["gradient_norm"] == 5.0
    np.testing.assert_allclose(metrics["step_norm"], 0.5, rtol=1e-6)


def test_a_step_that_leaves_the_ball_ends_at_its_boundary():
    policy, _, metrics = step(
        ProjectedGradient(lr=0.1, radius=0.05, gradient_steps=1), bowl(), Point(3.0, 2.0)
    )
    np.testing.assert_allclose(policy.x, [3 - 0.03, 2 - 0.04], rtol=1e-6)
    np.testing.assert_allclose(metrics["step_norm"], 0.05, rtol=1e-5)


def test_many_steps_solve_the_constrained_problem(x64: None):
    rule = ProjectedGradient(lr=0.1, radius=1.0, gradient_steps=500)
    start = Point(3.0, 2.0)
    policy, _, metrics = step(rule, bowl(), start)
    moved = np.asarray(policy.x - start.x)
    np.testing.assert_allclose(np.linalg.norm(moved), 1.0, rtol=1e-9)
    np.testing.assert_allclose(metrics["step_norm"], 1.0, rtol=1e-9)
    # At the solution the slope is opposite to the way from the centre: ∇L = −β Δθ with β > 0.
    slope = np.array([1.0, 4.0]) * (np.asarray(policy.x) - [0.0, 1.0])
    beta = -slope @ moved
    assert beta > 0
    np.testing.assert_allclose(slope, -beta * moved, atol=1e-8)


def test_a_ball_that_holds_the_minimum_does_not_matter(x64: None):
    rule = ProjectedGradient(lr=0.1, radius=10.0, gradient_steps=500)
    policy, _, _ = step(rule, bowl(), Point(3.0, 2.0))
    np.testing.assert_allclose(policy.x, [0.0, 1.0], atol=1e-10)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_step_that_would_not_be_finite_is_refused(bad: float):
    start = Point(1.0, 1.0)
    policy, _, metrics = step(ProjectedGradient(), Bowl([0.0, 0.0], [1.0, bad]), start)
    assert identical(policy, start)
    assert metrics["step_accepted"] == 0.0
    assert metrics["step_norm"] == 0.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -0.1}, "lr is -0.1"),
        ({"radius": 0.0}, "radius is 0.0; it must be a positive number"),
        ({"gradient_steps": 0}, "gradient-steps is 0; it must be 1 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        ProjectedGradient(**options)
