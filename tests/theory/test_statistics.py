from functools import reduce
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical
from surefoot.theory import statistics as theory
from surefoot.theory.statistics import RunningStatistics

statistics_of, merge = jax.jit(theory.statistics_of), jax.jit(RunningStatistics.merge)
standardise = jax.jit(theory.standardise, static_argnums=2)
# Three elements of very different scale and place.
DATA = np.random.default_rng(0).normal(size=(60, 3)) * [1.0, 100.0, 0.01] + [5.0, -300.0, 0.0]
VALID = np.random.default_rng(1).random(60) < 0.7


def collect(cuts: list[int]) -> list[RunningStatistics]:
    """The data in parts, each a collection of its own."""
    parts = zip(np.split(DATA, cuts), np.split(VALID, cuts), strict=True)
    return [statistics_of(jnp.array(values), jnp.array(valid)) for values, valid in parts]


def assert_equal_to_numpy(statistics: RunningStatistics, values: np.ndarray, rtol: float) -> None:
    assert statistics.count == len(values)
    np.testing.assert_allclose(statistics.mean, values.mean(0), rtol=rtol)
    np.testing.assert_allclose(statistics.variance, values.var(0), rtol=rtol)


@pytest.mark.parametrize("cuts", [[], [1], [20], [20, 21, 40], [0, 20, 20, 60]])
def test_merged_statistics_are_those_of_everything_at_once_however_it_is_split(cuts: list[int], x64: None):
    merged = reduce(merge, collect(cuts), RunningStatistics.empty(3))
    assert_equal_to_numpy(merged, DATA[VALID], 1e-12)


def test_the_order_of_merging_makes_no_difference(x64: None):
    for parts in permutations(collect([20, 21, 40])):
        assert_equal_to_numpy(reduce(merge, parts), DATA[VALID], 1e-12)
    a, b, c, d = collect([20, 21, 40])
    assert_equal_to_numpy(merge(merge(a, b), merge(c, d)), DATA[VALID], 1e-12)


def test_single_precision_stays_precise_far_from_zero():
    far = (DATA + np.array([1e4, 0.0, 0.0])).astype(np.float32)
    parts = [statistics_of(jnp.array(part), jnp.ones(20, bool)) for part in np.split(far, 3)]
    assert_equal_to_numpy(reduce(merge, parts), far.astype(float), 1e-3)


def test_the_statistics_of_any_leading_axes_are_those_of_their_elements():
    values, valid = jnp.array(DATA), jnp.array(VALID)
    together = theory.statistics_of(values.reshape(3, 4, 5, 3), valid.reshape(3, 4, 5))
    assert identical(together, theory.statistics_of(values, valid))


def test_what_is_not_valid_may_be_anything():
    soiled = jnp.where(VALID[:, None], DATA, jnp.nan)
    found = statistics_of(soiled, jnp.array(VALID))
    assert_equal_to_numpy(found, DATA[VALID], 1e-4)


def test_nothing_is_known_of_nothing():
    empty = RunningStatistics.empty(3)
    np.testing.assert_array_equal(empty.variance, np.ones(3))
    nothing = statistics_of(jnp.array(DATA), jnp.zeros(60, bool))
    for statistics in (nothing, empty.merge(empty), empty.merge(nothing)):
        assert identical(statistics, empty)


def test_merging_with_nothing_changes_nothing():
    one, nothing = statistics_of(jnp.array(DATA), jnp.array(VALID)), RunningStatistics.empty(3)
    for merged in (one.merge(nothing), nothing.merge(one)):
        for got, expected in zip(jax.tree.leaves(merged), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_single_value_has_no_variance():
    one = statistics_of(jnp.array([[2.0, 3.0]]), jnp.ones(1, bool))
    np.testing.assert_array_equal(one.mean, [2.0, 3.0])
    np.testing.assert_array_equal(one.variance, [0.0, 0.0])


def test_standardised_values_by_hand():
    known = RunningStatistics(jnp.array(2.0), jnp.array([1.0, 10.0]), jnp.array([8.0, 0.5]))
    # Standard deviations of 2 and ½.
    values = jnp.array([[1.0, 10.0], [5.0, 9.0], [100.0, -100.0]])
    expected = [[0.0, 0.0], [2.0, -2.0], [3.0, -3.0]]
    np.testing.assert_allclose(standardise(values, known, 3.0), expected, rtol=1e-6)


def test_before_anything_is_known_values_are_as_they_are():
    values = jnp.array([[1.0, -2.0, 0.5]])
    np.testing.assert_allclose(standardise(values, RunningStatistics.empty(3), 10.0), values, rtol=1e-6)


def test_standardised_data_has_mean_zero_and_variance_one():
    values = jnp.array(DATA)
    seen = standardise(values, statistics_of(values, jnp.ones(60, bool)), 10.0)
    np.testing.assert_allclose(seen.mean(0), np.zeros(3), atol=1e-4)
    np.testing.assert_allclose(seen.std(0), np.ones(3), rtol=1e-3)
    assert jnp.abs(seen).max() > 1.5


def test_an_element_that_never_changes_is_finite():
    constant = jnp.full((4, 1), 7.0)
    seen = standardise(jnp.array([[7.0], [8.0]]), statistics_of(constant, jnp.ones(4, bool)), 10.0)
    np.testing.assert_array_equal(seen, [[0.0], [10.0]])
