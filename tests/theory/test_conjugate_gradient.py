from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.theory.conjugate_gradient import Solution, conjugate_gradient, inner_product


def matrix(eigenvalues: list[float]) -> np.ndarray:
    n = len(eigenvalues)
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    return basis @ np.diag(eigenvalues) @ basis.T


def right_hand_side(n: int) -> np.ndarray:
    return np.random.default_rng(9).normal(size=n)


@partial(jax.jit, static_argnums=(2, 3))
def solve(a: jax.Array, b: jax.Array, iterations: int = 20, tolerance: float = 1e-12) -> Solution:
    return conjugate_gradient(lambda v: a @ v, b, max_iterations=iterations, tolerance=tolerance)


def relative_residuals(a: np.ndarray, b: np.ndarray, iterations: int) -> list[float]:
    """‖b − A x‖ / ‖b‖ after each iteration of the textbook's conjugate gradient."""
    x, r, p, found = np.zeros_like(b), b, b, []
    for _ in range(iterations):
        alpha = (r @ r) / (p @ a @ p)
        x, old = x + alpha * p, r
        r = r - alpha * (a @ p)
        p = r + (r @ r) / (old @ old) * p
        found.append(float(np.linalg.norm(b - a @ x) / np.linalg.norm(b)))
    return found


def test_inner_product_sums_over_all_arrays():
    tree = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    assert inner_product(tree, tree) == 14.0


def test_it_solves_as_the_direct_method_does(x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 3.0, 7.0, 20.0]), right_hand_side(6)
    found = solve(a, b)
    np.testing.assert_allclose(found.x, np.linalg.solve(a, b), rtol=1e-10)


def test_it_needs_one_iteration_for_each_distinct_eigenvalue(x64: None):
    assert solve(matrix([3.0] * 6), right_hand_side(6), 20, 1e-8).iterations == 1
    assert solve(matrix([1.0, 1.0, 1.0, 5.0, 5.0, 5.0]), right_hand_side(6), 20, 1e-8).iterations == 2
    assert solve(matrix([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), right_hand_side(6), 20, 1e-8).iterations == 6


@pytest.mark.parametrize("iterations", [1, 3])
def test_it_stops_at_the_limit_of_iterations_with_the_residual_of_its_solution(iterations: int, x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 3.0, 7.0, 20.0]), right_hand_side(6)
    found = solve(a, b, iterations)
    assert found.iterations == iterations
    residual = b - a @ np.asarray(found.x)
    np.testing.assert_allclose(found.residual, residual, atol=1e-13)
    relative = np.linalg.norm(residual) / np.linalg.norm(b)
    np.testing.assert_allclose(found.relative_residual, relative, rtol=1e-12)
    assert relative > 0.01


def test_it_stops_as_soon_as_the_tolerance_is_met(x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 3.0, 7.0, 20.0]), right_hand_side(6)
    residuals = relative_residuals(a, b, 6)
    tolerance = 0.2
    needed = next(k for k, residual in enumerate(residuals, 1) if residual <= tolerance)
    found = solve(a, b, 20, tolerance)
    assert 1 < needed < 6
    assert found.iterations == needed
    assert found.relative_residual <= tolerance
    np.testing.assert_allclose(found.relative_residual, residuals[needed - 1], rtol=1e-10)


def test_products_are_not_spent_after_the_stop():
    calls: list[int] = []

    def product(v: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: calls.append(1))
        return 3.0 * v

    found = conjugate_gradient(product, jnp.ones(3), max_iterations=10, tolerance=1e-5)
    jax.block_until_ready(found.x)
    jax.effects_barrier()
    assert len(calls) == found.iterations == 1


def test_a_negative_curvature_ends_it_at_the_iterate_before():
    # By hand: the first step goes to (10, 5)/3, the second direction (20, 40)/9 curves downwards.
    found = solve(jnp.diag(jnp.array([1.0, -1.0])), jnp.array([2.0, 1.0]))
    np.testing.assert_allclose(found.x, [10 / 3, 5 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.residual, [-4 / 3, 8 / 3], rtol=1e-6)
    assert found.iterations == 2


@pytest.mark.parametrize("scale", [0.0, -1.0, jnp.nan, jnp.inf])
def test_with_no_usable_curvature_it_stays_at_zero(scale: float):
    b = jnp.array([1.0, 2.0])
    found = solve(jnp.array([[scale, 0.0], [0.0, scale]]), b)
    np.testing.assert_array_equal(found.x, jnp.zeros(2))
    np.testing.assert_array_equal(found.residual, b)
    assert found.iterations == 1
    assert found.relative_residual == 1.0


def test_a_product_that_is_not_finite_later_does_not_reach_the_iterate():
    def product(v: jax.Array) -> jax.Array:
        # Finite for the first direction alone, whose elements are equal.
        return jnp.array([1.0, 2.0]) * jnp.where(v[0] == v[1], v, jnp.nan)

    found = conjugate_gradient(product, jnp.ones(2), max_iterations=5, tolerance=0.0)
    np.testing.assert_allclose(found.x, jnp.full(2, 2 / 3), rtol=1e-6)
    np.testing.assert_allclose(found.residual, [1 / 3, -1 / 3], rtol=1e-6)
    assert found.iterations == 2


def test_a_right_hand_side_of_zero_costs_nothing():
    found = solve(jnp.eye(2), jnp.zeros(2))
    np.testing.assert_array_equal(found.x, jnp.zeros(2))
    assert found.iterations == 0
    assert found.relative_residual == 0.0


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, 1e30])
def test_a_right_hand_side_whose_norm_is_not_finite_gives_no_step(bad: float):
    found = solve(1e-30 * jnp.eye(2), jnp.array([1.0, bad]))
    np.testing.assert_array_equal(found.x, jnp.zeros(2))
    assert found.iterations == 0
    assert jnp.isnan(found.relative_residual)


def test_it_can_be_differentiated_in_reverse(x64: None):
    a, b, c = matrix([1.0, 2.0, 4.0, 5.0]), right_hand_side(4), np.arange(4.0)
    slopes = jax.jit(jax.grad(lambda a, b: jnp.sum(c * solve(a, b, 6, 1e-14).x), (0, 1)))
    of_a, of_b = slopes(a, b)
    # c·A⁻¹b has the slopes A⁻ᵀc in b and −A⁻ᵀc (A⁻¹b)ᵀ in A.
    expected = np.linalg.solve(a.T, c)
    np.testing.assert_allclose(of_b, expected, rtol=1e-6)
    # In directions that keep the matrix symmetric, the only ones in which the method is a solver.
    expected = -np.outer(expected, np.linalg.solve(a, b))
    np.testing.assert_allclose(of_a + of_a.T, expected + expected.T, rtol=1e-6, atol=1e-8)


def test_it_works_on_any_tree_and_in_vmap(x64: None):
    a, b = matrix([1.0, 2.0, 4.0]), right_hand_side(3)

    def split(v: jax.Array) -> Any:
        return {"first": v[:1], "rest": v[1:]}

    def product(tree: Any) -> Any:
        return split(a @ jnp.concatenate([tree["first"], tree["rest"]]))

    def on(b: jax.Array) -> Solution:
        return conjugate_gradient(product, split(b), max_iterations=5, tolerance=1e-12)

    found = jax.jit(jax.vmap(on))(np.stack([b, np.zeros(3), 2 * b]))
    x = np.concatenate([found.x["first"], found.x["rest"]], axis=-1)
    expected = np.linalg.solve(a, b)
    np.testing.assert_allclose(x, [expected, 0 * expected, 2 * expected], atol=1e-12)
    np.testing.assert_array_equal(found.iterations, [3, 0, 3])
