import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from surefoot.statistics import (
    interquartile_mean,
    mean,
    performance_profile,
    probability_of_improvement,
)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 3.0], 2.0),
        # A quarter of three is 0.75: of the lowest and highest a quarter counts.
        ([9.0, 0.0, 3.0], (0.25 * 0 + 3 + 0.25 * 9) / 1.5),
        ([100.0, 1.0, 2.0, -50.0], 1.5),
        ([0.0, 1.0, 2.0, 4.0, 100.0], (0.75 * 1 + 2 + 0.75 * 4) / 2.5),
    ],
)
def test_the_middle_half_is_averaged(scores: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(scores)[:, None]) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(4, 1), (8, 3), (2, 10)])
def test_it_is_scipy_s_trimmed_mean_where_a_quarter_is_whole(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).normal(size=shape)
    assert interquartile_mean(scores) == pytest.approx(trim_mean(scores, 0.25, axis=None))


def test_other_axes_are_kept() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 3, 5, 2))
    for statistic in (interquartile_mean, mean):
        found = statistic(scores)
        assert found.shape == (2, 3)
        assert found[1, 2] == pytest.approx(statistic(scores[1, 2]))
    assert mean(scores)[0, 0] == pytest.approx(scores[0, 0].mean())


def test_the_profile_is_the_share_above() -> None:
    scores = np.array([[0.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(
        performance_profile(scores, np.array([-1.0, 0.0, 1.5, 3.0])), [1.0, 0.75, 0.5, 0.0]
    )


def test_improvement_is_mann_and_whitney_s_statistic() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(6, size=(7, 2)) * 1.0, rng.integers(5, size=(4, 2)) * 1.0
    expected = [mannwhitneyu(ours[:, t], theirs[:, t]).statistic / 28 for t in range(2)]
    assert probability_of_improvement(ours, theirs) == pytest.approx(np.mean(expected))


def test_improvement_by_hand() -> None:
    ours, theirs = np.array([[1.0], [2.0]]), np.array([[1.0], [0.0], [3.0]])
    assert probability_of_improvement(ours, theirs) == pytest.approx((1.5 + 2) / 6)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - 3.5 / 6)
