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


def energy(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> float:
    """φ(x) = ½ xᵀAx − bᵀx."""
    return float(0.5 * x @ a @ x - b @ x)


def test_the_solution_minimises_the_quadratic_which_a_step_h_raises_by_half_of_h_a_h(x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 7.0]), right_hand_side(4)
    x = np.asarray(solve(a, b).x)
    for h in np.random.default_rng(1).normal(size=(20, 4)):
        np.testing.assert_allclose(energy(a, b, x + h) - energy(a, b, x), 0.5 * h @ a @ h, rtol=1e-9)
    np.testing.assert_allclose(energy(a, b, x), -0.5 * b @ np.linalg.solve(a, b), rtol=1e-12)


def long_recursion(a: np.ndarray, b: np.ndarray, iterations: int) -> tuple[list[Any], list[Any], list[Any]]:
    """The iterates, residuals and directions by what the two coefficients mean, without the short forms:
    α = pᵀr / pᵀAp ends where the slope along p is zero, and β = −rᵀAp / pᵀAp makes the new direction
    conjugate to p. The residual is b − A x, anew each time."""
    xs, rs, ps = [np.zeros_like(b)], [b], [b]
    for _ in range(iterations):
        p = ps[-1]
        curvature = p @ a @ p
        xs.append(xs[-1] + (p @ rs[-1]) / curvature * p)
        rs.append(b - a @ xs[-1])
        ps.append(rs[-1] - (rs[-1] @ a @ p) / curvature * p)
    return xs, rs, ps


def test_the_short_forms_of_both_coefficients_are_the_long_ones(x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 7.0]), right_hand_side(4)
    xs, rs, ps = long_recursion(a, b, 3)
    for k in range(3):
        p, r, after = ps[k], rs[k], rs[k + 1]
        np.testing.assert_allclose(p @ r, r @ r, rtol=1e-11)
        beta = (after @ after) / (r @ r)
        np.testing.assert_allclose(-(after @ a @ p) / (p @ a @ p), beta, rtol=1e-11)
        np.testing.assert_allclose(ps[k + 1], after + beta * p, rtol=1e-10)
        np.testing.assert_allclose(solve(a, b, k + 1).x, xs[k + 1], rtol=1e-11)
        np.testing.assert_allclose(solve(a, b, k + 1).residual, after, atol=1e-12)


def test_its_directions_are_conjugate_and_its_residuals_orthogonal(x64: None):
    """Each to all the earlier ones, though only the last is asked for."""
    a, b = matrix([0.5, 1.0, 2.0, 7.0]), right_hand_side(4)
    xs = np.stack([np.zeros(4), *(np.asarray(solve(a, b, k).x) for k in (1, 2, 3, 4))])
    steps, residuals = np.diff(xs, axis=0), (b - xs @ a)[:4]
    for products in (steps @ a @ steps.T, residuals @ residuals.T):
        sizes = np.sqrt(np.diag(products))
        np.testing.assert_allclose(products / np.outer(sizes, sizes), np.eye(4), atol=1e-11)
    # Steepest descent, which takes the residuals themselves as directions, has no such ones.
    assert abs(residuals[0] @ a @ residuals[1]) > 0.1 * residuals[1] @ a @ residuals[1]


def test_each_iterate_is_the_best_combination_of_the_powers_and_points_downhill(x64: None):
    """It minimises φ over b, Ab, …, A^(k−1) b, so that φ falls and ½ xᵀAx < bᵀx; xᵀAx is xᵀ(b − r)."""
    a, b = matrix([0.5, 1.0, 2.0, 7.0]), right_hand_side(4)
    energies = [0.0]
    for k in (1, 2, 3, 4):
        found = solve(a, b, k)
        x, residual = np.asarray(found.x), np.asarray(found.residual)
        powers = np.stack([np.linalg.matrix_power(a, i) @ b for i in range(k)], axis=1)
        best = powers @ np.linalg.solve(powers.T @ a @ powers, powers.T @ b)
        np.testing.assert_allclose(x, best, rtol=1e-7)
        energies.append(energy(a, b, x))
        assert energies[-1] < energies[-2]
        assert 0 < 0.5 * x @ a @ x < b @ x
        np.testing.assert_allclose(x @ (b - residual), x @ a @ x, rtol=1e-10)


def relative_error(a: np.ndarray, b: np.ndarray, iterations: int) -> float:
    """‖x_k − x‖_A / ‖x‖_A."""
    x = np.linalg.solve(a, b)
    error = np.asarray(solve(a, b, iterations).x) - x
    return float(np.sqrt((error @ a @ error) / (x @ a @ x)))


def bound_on_the_error(condition: float, iterations: int) -> float:
    return 2.0 * ((np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)) ** iterations


@pytest.mark.parametrize("eigenvalues", [[1.0, 2.0, 4.0, 9.0], [0.01, 0.02, 50.0, 100.0]])
def test_the_error_after_k_iterations_is_within_the_bound(eigenvalues: list[float], x64: None):
    a, b = matrix(eigenvalues), right_hand_side(4)
    condition = eigenvalues[-1] / eigenvalues[0]
    for k in (1, 2, 3):
        assert 0 < relative_error(a, b, k) <= bound_on_the_error(condition, k)


@pytest.mark.parametrize(("condition", "iterations"), [(4.0, 3), (4.0, 4), (2.25, 3)])
def test_the_bound_on_the_error_cannot_be_lowered(condition: float, iterations: int, x64: None):
    """The worst system for k iterations has its k + 1 eigenvalues where the Chebyshev polynomial T_k is 1 or
    −1, and an error of 1 / T_k((κ + 1) / (κ − 1)) = bound / (1 + q^2k) with q = (√κ − 1) / (√κ + 1)."""
    nodes = np.cos(np.pi * np.arange(iterations + 1) / iterations)
    eigenvalues = (condition + 1 + (condition - 1) * nodes) / 2
    gaps = np.abs(eigenvalues[:, None] - eigenvalues) + np.eye(iterations + 1)
    error = relative_error(np.diag(eigenvalues), 1 / np.sqrt(gaps.prod(axis=1)), iterations)
    bound = bound_on_the_error(condition, iterations)
    chebyshev = np.polynomial.Chebyshev.basis(iterations)((condition + 1) / (condition - 1))
    np.testing.assert_allclose(error, 1 / chebyshev, rtol=1e-9)
    assert 0.998 * bound < error <= bound


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
