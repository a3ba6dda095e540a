from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import compared, gradient_of, identical, kl_hessian, ravel
from support.probes import Bowl, Point
from support.samples import gaussian_policy, random_batch
from surefoot.options import UserError
from surefoot.rules import GradientStep, NaturalGradient
from surefoot.theory.objectives import PolicyObjective, surrogate

OBJECTIVE = PolicyObjective(surrogate)


@eqx.filter_jit
def step(rule: NaturalGradient | GradientStep, objective: Any, policy: Any, batch: Any = None) -> Any:
    return rule.step(objective, policy, batch, rule.init(policy))


def test_a_step_by_hand():
    # The Bowl's Fisher matrix is the identity; with λ = 1 the step is half the gradient step.
    rule = NaturalGradient(lr=0.5, damping=1.0)
    policy, _, metrics = step(rule, Bowl([0.0, 1.0], [1.0, 4.0]), Point(3.0, 2.0))
    np.testing.assert_allclose(policy.x, [3 - 0.25 * 3, 2 - 0.25 * 4], rtol=1e-6)
    assert policy.label == 7
    assert metrics["loss"] == 6.5
    assert metrics["gradient_norm"] == 5.0
    assert metrics["cg_iterations"] == 1.0
    assert metrics["cg_residual"] < 1e-5


def test_it_is_the_gradient_in_the_metric_of_the_fisher_matrix(x64: None):
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    rule = NaturalGradient(lr=0.1, damping=0.01, cg_iterations=60, cg_tolerance=1e-10)
    new, _, _ = step(rule, OBJECTIVE, policy, batch)
    fisher = kl_hessian(OBJECTIVE, policy, batch)
    gradient = ravel(gradient_of(OBJECTIVE, policy, batch)[1])
    expected = -0.1 * np.linalg.solve(fisher + 0.01 * np.eye(len(fisher)), gradient)
    np.testing.assert_allclose(ravel(new) - ravel(policy), expected, atol=1e-8)


class Stretched(Bowl):
    """The same bowl and the same divergence, seen through parameters y with x = stretch · y."""

    stretch: jax.Array

    def __init__(self, stretch: list[float], centre: list[float], curvatures: list[float]) -> None:
        super().__init__(centre, curvatures)
        self.stretch = jnp.array(stretch)

    def predict(self, policy: Point, batch: None) -> jax.Array:
        return self.stretch * policy.x


def moved(rule: NaturalGradient | GradientStep, stretch: list[float]) -> jax.Array:
    """The end, in x, of a step from x = (3, 2) that is taken in y."""
    start = Point(3.0 / stretch[0], 2.0 / stretch[1])
    objective = Stretched(stretch, [0.0, 1.0], [1.0, 4.0])
    policy, _, _ = step(rule, objective, start)
    return objective.predict(policy, None)


def test_it_does_not_depend_on_how_the_parameters_are_scaled():
    # But for the damping, which is that of the parameters: hence the tolerance.
    rule = NaturalGradient(lr=0.1, damping=1e-6)
    plain, stretched = moved(rule, [1.0, 1.0]), moved(rule, [5.0, 0.5])
    np.testing.assert_allclose(stretched, plain, rtol=1e-4)
    ordinary = GradientStep(lr=0.1)
    assert np.abs(moved(ordinary, [5.0, 0.5]) - moved(ordinary, [1.0, 1.0])).max() > 0.5


GIVEN_KL = NaturalGradient(max_kl=0.02, lr=99.0, damping=0.0)


def test_a_step_of_a_given_divergence_by_hand():
    # The gradient at (3, 2) is (3, 4) and the Fisher matrix the identity: a step of length √(2 · 0.02) = 0.2.
    for scale in (1.0, 100.0):
        start = Point(scale * 3.0, 1.0 + scale)
        bowl = Bowl([0.0, 1.0], [1.0, 4.0])
        policy, _, metrics = step(GIVEN_KL, bowl, start)
        np.testing.assert_allclose(start.x - policy.x, [0.12, 0.16], rtol=1e-3)
        assert metrics["step_accepted"] == 1.0
    # Where there is no gradient there is no step, and no division by zero.
    still, _, _ = step(GIVEN_KL, Bowl([0.0, 1.0], [1.0, 4.0]), Point(0.0, 1.0))
    np.testing.assert_array_equal(still.x, [0.0, 1.0])


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_every_step_has_the_divergence_asked_for_whatever_the_size_of_the_gradient(scale: float, x64: None):
    policy = gaussian_policy(hidden=())
    batch = random_batch(policy, jax.random.key(1))
    batch = eqx.tree_at(lambda b: b.advantages, batch, scale * batch.advantages)
    rule = NaturalGradient(max_kl=1e-4, damping=0.0, cg_iterations=30, cg_tolerance=1e-10)
    new, _, _ = step(rule, OBJECTIVE, policy, batch)
    old_loss, new_loss, divergence = compared(OBJECTIVE, policy, new, batch)
    # The quadratic model's error is of third order in the step.
    np.testing.assert_allclose(divergence, 1e-4, rtol=0.05)
    assert new_loss < old_loss


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_step_of_a_given_divergence_that_would_not_be_finite_is_refused(bad: float):
    start = Point(1.0, 1.0)
    policy, _, metrics = step(GIVEN_KL, Bowl([0.0, 0.0], [1.0, bad]), start)
    assert identical(policy, start)
    assert metrics["step_accepted"] == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_step_that_would_not_be_finite_is_refused(bad: float):
    # The last is finite, but the square of the gradient is not.
    start = Point(1.0, 1.0)
    objective = Stretched([1.0, 1.0], [0.0, 0.0], [1.0, bad])
    policy, _, metrics = step(NaturalGradient(damping=0.0), objective, start)
    assert identical(policy, start)
    assert jnp.isnan(metrics["cg_residual"])
    assert metrics["step_accepted"] == 0.0


def test_a_direction_that_is_not_finite_is_refused():
    # The Fisher matrix is 1e-30 where the gradient is 1e9: the quotient is beyond single precision.
    start = Point(1e24, 0.0)
    objective = Stretched([1e-15, 1e-15], [-1e24, 0.0], [1.0, 1.0])
    policy, _, metrics = step(NaturalGradient(damping=0.0), objective, start)
    np.testing.assert_allclose(metrics["gradient_norm"], 1e9, rtol=1e-3)
    assert identical(policy, start)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -0.1}, "lr is -0.1; it must be 0 or more, and finite"),
        ({"cg_iterations": 0}, "cg-iterations is 0; it must be 1 or more"),
        ({"cg_tolerance": -1.0}, "cg-tolerance is -1.0; it must be 0 or more"),
        ({"damping": -1.0}, "damping is -1.0; it must be 0 or more"),
        ({"max_kl": 0.0}, "max-kl is 0.0; it must be a positive number, or none"),
        ({"max_kl": float("nan")}, "max-kl is nan"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        NaturalGradient(**options)
