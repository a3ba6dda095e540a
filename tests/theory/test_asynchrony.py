import numpy as np
import pytest

from surefoot.theory.asynchrony import largest_stable_rate


def largest_root(rate: float, staleness: int) -> float:
    """The largest modulus of a root of z^{d+1} − z^d + a."""
    coefficients = np.zeros(staleness + 2)
    coefficients[0], coefficients[1] = 1.0, -1.0
    coefficients[-1] += rate
    return float(np.abs(np.roots(coefficients)).max())


@pytest.mark.parametrize("staleness", [0, 1, 2, 4, 8, 16])
def test_delayed_steps_converge_below_the_bound_and_not_above(staleness: int):
    bound = largest_stable_rate(staleness)
    assert largest_root(0.99 * bound, staleness) < 1 - 1e-5
    assert largest_root(1.01 * bound, staleness) > 1 + 1e-5
    np.testing.assert_allclose(largest_stable_rate(staleness, 4.0), bound / 4)


def test_the_chapter_s_table():
    found = [largest_stable_rate(d) for d in (0, 1, 2, 4, 8, 16)]
    np.testing.assert_allclose(found, [2, 1, 0.618, 0.347, 0.185, 0.095], atol=5e-4)


def test_a_simulation_agrees():
    def distance(rate: float) -> float:
        path = [1.0, 1.0, 1.0]
        for _ in range(2000):
            path.append(path[-1] - rate * path[-3])
        return max(abs(x) for x in path[-20:])

    assert distance(0.95 * largest_stable_rate(2)) < 1e-6
    assert distance(1.05 * largest_stable_rate(2)) > 1e6
