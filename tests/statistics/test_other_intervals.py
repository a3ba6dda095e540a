"""The intervals of `benchmarks/intervals.py`, which the guide to evidence compares with the library's."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from surefoot.statistics import interquartile_mean, interval
from surefoot.statistics.resampling import resample

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from intervals import METHODS, Bootstrap, standard_error

sys.path.pop(0)
SCORES = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5])[:, None]


def ends(
    method: str,
    scores: np.ndarray,
    *,
    scheme: str = "seeds-within-tasks",
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    low, high = METHODS[method](Bootstrap.of(scores, scheme, resamples, seed), 0.025)
    return float(low), float(high)


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_bootstrap_intervals_are_scipy_s(method: str, theirs: str) -> None:
    def statistic(x: np.ndarray, axis: int) -> np.ndarray:
        return stats.trim_mean(x, 0.25, axis=axis)

    scores = np.random.default_rng(1).lognormal(size=(20, 1))
    expected = stats.bootstrap(
        (scores[:, 0],), statistic, n_resamples=40_000, method=theirs, rng=np.random.default_rng(0)
    ).confidence_interval
    found = ends(method, scores, resamples=40_000)
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


def test_the_trimmed_t_is_scipy_s() -> None:
    expected = stats.mstats.trimmed_mean_ci(SCORES[:, 0], (0.25, 0.25))
    assert ends("trimmed-t", SCORES) == pytest.approx(tuple(expected))


def test_the_studentised_interval_by_hand() -> None:
    """Recomputed from the very samples, one by one."""
    found = ends("studentised", SCORES, resamples=200, seed=3)
    samples = resample(SCORES, "seeds-within-tasks", 200, np.random.default_rng(3))[:, :, 0]

    def error(x: np.ndarray) -> float:
        return float(stats.mstats.trimmed_stde(x, (0.25, 0.25)))

    estimate = stats.trim_mean(SCORES[:, 0], 0.25)
    ratios = []
    for x in samples:
        away = stats.trim_mean(x, 0.25) - estimate
        ratios.append(away / error(x) if error(x) > 0 else np.sign(away) * np.inf)
    low, high = np.quantile(ratios, [0.025, 0.975], method="inverted_cdf")
    expected = estimate - high * error(SCORES[:, 0]), estimate - low * error(SCORES[:, 0])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("scheme", ["seeds-within-tasks", "seeds-and-tasks"])
def test_the_standard_error_is_that_of_many_samples(scheme: str) -> None:
    rng = np.random.default_rng(2)
    if scheme == "seeds-within-tasks":
        many = rng.normal(size=(2000, 40, 3))
    else:
        many = rng.normal(size=(2000, 40, 1)) + rng.normal(size=(2000, 1, 30))
    error, freedom = standard_error(many, scheme)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(interquartile_mean(many).std(), rel=0.06)
    assert np.all(freedom > 15)


@pytest.mark.parametrize("scheme", ["seeds-within-tasks", "seeds-and-tasks"])
def test_the_expanded_one_is_the_library_s(scheme: str) -> None:
    scores = np.random.default_rng(3).normal(size=(10, 6))
    found = interval(scores, scheme=scheme, seed=4)
    assert ends("expanded", scores, scheme=scheme, seed=4) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["seeds-within-tasks", "seeds-and-tasks"])
def test_an_interval_holds_its_estimate_and_moves_with_the_scores(method: str, scheme: str) -> None:
    scores = np.random.default_rng(3).normal(size=(10, 6))
    low, high = ends(method, scores, scheme=scheme)
    assert low < interquartile_mean(scores) < high
    assert ends(method, 10 * scores + 7, scheme=scheme) == pytest.approx((10 * low + 7, 10 * high + 7))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["seeds-within-tasks", "seeds-and-tasks"])
def test_scores_without_spread_have_an_interval_of_no_width(method: str, scheme: str) -> None:
    assert ends(method, np.full((5, 2), 500.0), scheme=scheme) == pytest.approx((500, 500))
