from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PyTree

from support.dense import gradient_of, identical, kl_hessian, ravel
from support.probes import Bowl, Point
from support.samples import gaussian_policy, random_batch
from surefoot.theory.distributions import DiagonalGaussian
from surefoot.theory.objectives import AbstractObjective, PolicyObjective, surrogate
from surefoot.theory.trust_region import (
    LineSearch,
    line_search,
    natural_direction,
    project_to_ball,
    step_length,
)

BOWL = Bowl([0.0], [1.0])


@eqx.filter_jit
def _search(
    objective: AbstractObjective, policy: Point, step: Array, max_kl: float, tries: int
) -> LineSearch:
    move = eqx.filter(eqx.tree_at(lambda p: p.x, policy, step), eqx.is_inexact_array)
    loss = objective.loss(objective.predict(policy, None), None)
    return line_search(objective, policy, move, None, loss, max_kl=max_kl, ratio=0.5, max_backtracks=tries)


def search(
    objective: AbstractObjective, start: Any, step: float, *, max_kl: float = 100.0, backtracks: int = 5
) -> LineSearch:
    policy = start if isinstance(start, Point) else Point(start)
    return _search(objective, policy, jnp.full_like(policy.x, step), max_kl, backtracks)


@eqx.filter_jit
def direction(policy: Any, gradient: Any, batch: Any, iterations: int, tolerance: float) -> Any:
    options = {"damping": 0.1, "max_iterations": iterations, "tolerance": tolerance}
    return natural_direction(PolicyObjective(surrogate), policy, gradient, batch, **options)


def test_step_length_by_hand():
    np.testing.assert_allclose(step_length(0.02, jnp.array(4.0)), 0.1, rtol=1e-6)


@pytest.mark.parametrize("curvature", [0.0, -1.0, jnp.nan])
def test_step_length_is_zero_without_curvature(curvature: float):
    assert step_length(0.01, jnp.array(curvature)) == 0.0


def test_step_length_can_be_differentiated_where_there_is_no_curvature():
    assert jax.grad(lambda c: step_length(0.01, c))(jnp.array(0.0)) == 0.0


def test_the_natural_direction_solves_with_the_damped_fisher_matrix(x64: None):
    policy = gaussian_policy()
    objective = PolicyObjective(surrogate)
    batch = random_batch(policy, jax.random.key(1))
    _, gradient = gradient_of(objective, policy, batch)
    found = direction(policy, gradient, batch, 50, 1e-12)
    fisher = kl_hessian(objective, policy, batch)
    damped = fisher + 0.1 * np.eye(len(fisher))
    s = np.asarray(ravel(found.direction))
    np.testing.assert_allclose(s, np.linalg.solve(damped, ravel(gradient)), atol=1e-9)
    np.testing.assert_allclose(found.curvature, s @ damped @ s, rtol=1e-9)


def test_its_curvature_is_exact_though_the_solution_is_not(x64: None):
    policy = gaussian_policy()
    objective = PolicyObjective(surrogate)
    batch = random_batch(policy, jax.random.key(1))
    _, gradient = gradient_of(objective, policy, batch)
    found = direction(policy, gradient, batch, 2, 0.0)
    s, fisher = np.asarray(ravel(found.direction)), np.asarray(kl_hessian(objective, policy, batch))
    assert found.solution.relative_residual > 0.01
    np.testing.assert_allclose(found.curvature, s @ (fisher @ s + 0.1 * s), rtol=1e-10)


def test_the_line_search_accepts_a_full_step():
    found = search(BOWL, 1.0, -0.5)
    assert found.accepted
    assert found.attempts == 1
    np.testing.assert_allclose(found.policy.x, [0.5])
    np.testing.assert_allclose(found.loss, 0.125)
    np.testing.assert_allclose(found.kl, 0.125)


def test_it_shortens_a_step_that_overshoots():
    # From 1 to −3 (worse), −1 (as good, which is not enough), 0.
    found = search(BOWL, 1.0, -4.0)
    assert found.accepted
    assert found.attempts == 3
    np.testing.assert_allclose(found.policy.x, [0.0], atol=1e-7)
    np.testing.assert_allclose(found.kl, 0.5)


def test_it_shortens_a_step_whose_divergence_is_too_great():
    # Lengths 1, ½, ¼ have divergences ½, ⅛, 1/32; the loss falls at each.
    found = search(BOWL, 1.0, -1.0, max_kl=0.1)
    assert found.accepted
    assert found.attempts == 3
    np.testing.assert_allclose(found.policy.x, [0.75])
    np.testing.assert_allclose(found.kl, 1 / 32)


@pytest.mark.parametrize(
    ("step", "max_kl"), [(1.0, 100.0), (-1.0, 1e-6)], ids=["loss never falls", "divergence never fits"]
)
def test_it_gives_back_the_old_policy_when_no_length_will_do(step: float, max_kl: float):
    start = Point(1.1)
    found = search(BOWL, start, step, max_kl=max_kl)
    assert not found.accepted
    assert found.attempts == 6
    assert identical(found.policy, start)
    assert found.kl == 0.0
    np.testing.assert_allclose(found.loss, 0.5 * 1.1**2, rtol=1e-6)


def test_without_backtracking_it_tries_once():
    assert search(BOWL, 1.0, 1.0, backtracks=0).attempts == 1


class Cliff(Bowl):
    """A bowl whose loss or divergence has this added where x < 0."""

    of_loss: Array
    of_divergence: Array

    def __init__(self, of_loss: float = 0.0, of_divergence: float = 0.0) -> None:
        super().__init__([-3.0], [1.0])
        self.of_loss, self.of_divergence = jnp.array(of_loss), jnp.array(of_divergence)

    def loss(self, prediction: PyTree, batch: PyTree) -> Float[Array, ""]:
        return Bowl.loss(self, prediction, batch) + jnp.where(prediction[0] < 0, self.of_loss, 0.0)

    def divergence(self, old: PyTree, new: PyTree, batch: PyTree) -> Float[Array, ""]:
        return Bowl.divergence(self, old, new, batch) + jnp.where(new[0] < 0, self.of_divergence, 0.0)


@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf])
def test_a_loss_that_is_not_finite_is_refused(bad: float):
    found = search(Cliff(of_loss=bad), 1.0, -2.0)
    assert found.accepted
    assert found.attempts == 2
    np.testing.assert_allclose(found.policy.x, [0.0], atol=1e-7)


@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf])
def test_a_divergence_that_is_not_finite_is_refused(bad: float):
    found = search(Cliff(of_divergence=bad), 1.0, -2.0)
    assert found.attempts == 2
    np.testing.assert_allclose(found.policy.x, [0.0], atol=1e-7)


def test_a_step_that_is_not_finite_is_refused():
    start = Point(1.1)
    found = search(BOWL, start, jnp.nan)
    assert not found.accepted
    assert identical(found.policy, start)


class Width(AbstractObjective):
    """The prediction is a normal distribution whose log standard deviation is the policy; wider, or narrower,
    is better."""

    sign: Array

    def predict(self, policy: PyTree, batch: PyTree) -> PyTree:
        return DiagonalGaussian(jnp.zeros_like(policy.x), policy.x)

    def loss(self, prediction: PyTree, batch: PyTree) -> Float[Array, ""]:
        return -self.sign * jnp.sum(prediction.log_std)

    def divergence(self, old: PyTree, new: PyTree, batch: PyTree) -> Float[Array, ""]:
        return old.kl(new)

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        return f(batch)


@pytest.mark.parametrize(("sign", "attempts"), [(1.0, 1), (-1.0, 2)])
def test_it_bounds_the_divergence_of_the_new_policy_from_the_old(sign: float, attempts: int):
    # e^½ times as wide: 0.184 from old to new and 0.359 back; narrower, the other way round.
    found = search(Width(jnp.array(sign)), 0.0, sign * 0.5, max_kl=0.25)
    assert found.accepted
    assert found.attempts == attempts


def test_what_is_no_parameter_is_kept():
    found = search(BOWL, 1.0, -0.5)
    assert found.policy.label == 7
    assert found.policy.label.dtype == jnp.int32


def test_the_nearest_point_of_a_ball_by_hand():
    step = {"w": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    found = project_to_ball(step, 0.5)
    np.testing.assert_allclose(found["w"], [0.3, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [0.4], rtol=1e-6)
    inside = project_to_ball(step, 6.0)
    np.testing.assert_array_equal(inside["w"], step["w"])
    np.testing.assert_array_equal(project_to_ball({"w": jnp.zeros(2)}, 1.0)["w"], np.zeros(2))


def test_no_other_point_of_the_ball_is_nearer(x64: None):
    draw = np.random.default_rng(0)
    step = draw.normal(size=3) + 2.0
    found = np.asarray(project_to_ball(jnp.asarray(step), 0.7))
    others = draw.normal(size=(2000, 3))
    others *= 0.7 * draw.uniform(size=(2000, 1)) ** (1 / 3) / np.linalg.norm(others, axis=1, keepdims=True)
    assert np.linalg.norm(found - step) < np.min(np.linalg.norm(others - step, axis=1))
    np.testing.assert_allclose(np.linalg.norm(found), 0.7, rtol=1e-12)
