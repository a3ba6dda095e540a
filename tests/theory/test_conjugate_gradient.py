from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.theory.conjugate_gradient import Solution, conjugate_gradient, inner_product


def matrix(eigenvalues: list[float], seed: int = 0) -> jax.Array:
    n = len(eigenvalues)
    basis, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(seed), (n, n)))
    return basis @ jnp.diag(jnp.array(eigenvalues)) @ basis.T


def right_hand_side(n: int) -> jax.Array:
    return jax.random.normal(jax.random.key(9), (n,))


def solve(a: jax.Array, b: jax.Array, iterations: int = 20, tolerance: float = 1e-12) -> Solution:
    return conjugate_gradient(lambda v: a @ v, b, max_iterations=iterations, tolerance=tolerance)


def test_inner_product_sums_over_all_arrays():
    tree = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    assert inner_product(tree, tree) == 14.0


def test_it_solves_as_the_direct_method_does(x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 3.0, 7.0, 20.0]), right_hand_side(6)
    found = solve(a, b)
    np.testing.assert_allclose(found.x, jnp.linalg.solve(a, b), rtol=1e-10)


def test_it_needs_one_iteration_for_each_distinct_eigenvalue(x64: None):
    assert solve(matrix([3.0] * 6), right_hand_side(6), tolerance=1e-8).iterations == 1
    assert solve(matrix([1.0, 1.0, 1.0, 5.0, 5.0, 5.0]), right_hand_side(6), tolerance=1e-8).iterations == 2
    assert solve(matrix([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), right_hand_side(6), tolerance=1e-8).iterations == 6


@pytest.mark.parametrize("iterations", [1, 3])
def test_its_residual_is_that_of_its_solution(iterations: int, x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 3.0, 7.0, 20.0]), right_hand_side(6)
    found = solve(a, b, iterations)
    np.testing.assert_allclose(found.residual, b - a @ found.x, atol=1e-13)
    relative = jnp.linalg.norm(b - a @ found.x) / jnp.linalg.norm(b)
    np.testing.assert_allclose(found.relative_residual, relative, rtol=1e-12)
    assert relative > 0.01


def test_it_stops_at_the_limit_of_iterations(x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 3.0, 7.0, 20.0]), right_hand_side(6)
    assert solve(a, b, 3).iterations == 3


def test_it_stops_as_soon_as_the_tolerance_is_met(x64: None):
    a, b = matrix([0.5, 1.0, 2.0, 3.0, 7.0, 20.0]), right_hand_side(6)
    residuals = [float(solve(a, b, k, 0.0).relative_residual) for k in range(1, 7)]
    tolerance = 0.2
    needed = next(k for k, residual in enumerate(residuals, 1) if residual <= tolerance)
    found = solve(a, b, 20, tolerance)
    assert 1 < needed < 6
    assert found.iterations == needed
    assert found.relative_residual <= tolerance


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
    found = conjugate_gradient(lambda v: scale * v, b, max_iterations=5, tolerance=0.0)
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
    found = solve(jnp.eye(3), jnp.zeros(3))
    np.testing.assert_array_equal(found.x, jnp.zeros(3))
    assert found.iterations == 0
    assert found.relative_residual == 0.0


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, 1e30])
def test_a_right_hand_side_whose_norm_is_not_finite_gives_no_step(bad: float):
    found = solve(1e-30 * jnp.eye(2), jnp.array([1.0, bad]))
    np.testing.assert_array_equal(found.x, jnp.zeros(2))
    assert found.iterations == 0
    assert jnp.isnan(found.relative_residual)


def test_it_can_be_differentiated_in_reverse(x64: None):
    a, b = matrix([1.0, 2.0, 4.0, 5.0]), right_hand_side(4)

    def found(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(jnp.arange(4.0) * solve(a, b, 6, 1e-14).x)

    def direct(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(jnp.arange(4.0) * jnp.linalg.solve(a, b))

    got, expected = jax.grad(found, (0, 1))(a, b), jax.grad(direct, (0, 1))(a, b)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-6)
    # In directions that keep the matrix symmetric, the only ones in which the method is a solver.
    np.testing.assert_allclose(got[0] + got[0].T, expected[0] + expected[0].T, rtol=1e-6, atol=1e-8)


def test_it_works_on_any_tree_and_in_vmap(x64: None):
    a, b = matrix([1.0, 2.0, 4.0]), right_hand_side(3)

    def split(v: jax.Array) -> Any:
        return {"first": v[:1], "rest": v[1:]}

    def product(tree: Any) -> Any:
        return split(a @ jnp.concatenate([tree["first"], tree["rest"]]))

    def on(b: jax.Array) -> Solution:
        return conjugate_gradient(product, split(b), max_iterations=5, tolerance=1e-12)

    found = jax.vmap(on)(jnp.stack([b, jnp.zeros(3), 2 * b]))
    x = jnp.concatenate([found.x["first"], found.x["rest"]], axis=-1)
    expected = jnp.linalg.solve(a, b)
    np.testing.assert_allclose(x, [expected, 0 * expected, 2 * expected], atol=1e-12)
    np.testing.assert_array_equal(found.iterations, [3, 0, 3])
