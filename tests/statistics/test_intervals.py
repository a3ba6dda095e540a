from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from surefoot.options import UserError
from surefoot.statistics import (
    Interval,
    difference,
    improvement_interval,
    interquartile_mean,
    interval,
    mean,
    probability_of_improvement,
)
from surefoot.statistics.resampling import resample

SCORES = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5])[:, None]


def ends(found: Interval) -> tuple[float, float]:
    return found.low, found.high


def test_the_expanded_interval_of_a_mean_is_student_s() -> None:
    """Of a mean of roughly normal scores, whose bootstrap distribution is nearly normal."""
    scores = stats.norm.ppf((np.arange(20) + 0.5) / 20)[:, None]
    found = interval(scores, statistic=mean, resamples=100_000)
    error = scores.std(ddof=1) / np.sqrt(20)
    half = stats.t.ppf(0.975, 19) * error
    assert ends(found) == pytest.approx((-half, half), abs=0.02)
    plain = np.quantile(
        mean(resample(scores, "seeds-within-tasks", 100_000, np.random.default_rng(0))), [0.025, 0.975]
    )
    assert found.high - found.low > 1.05 * (plain[1] - plain[0])


def test_seeds_within_tasks_are_drawn_for_each_task() -> None:
    scores = np.arange(3.0)[:, None] + 10 * np.arange(2.0)
    samples = resample(scores, "seeds-within-tasks", 500, np.random.default_rng(0))
    assert samples.shape == (500, 3, 2)
    assert set(samples[..., 0].ravel()) == {0, 1, 2}
    assert set(samples[..., 1].ravel()) == {10, 11, 12}
    assert np.abs(samples[..., 1] - samples[..., 0] - 10).max() == 2


def test_seeds_and_tasks_are_drawn_whole() -> None:
    """Two tasks 10 apart: in a sample they stay 10 apart or have become one."""
    scores = np.arange(3.0)[:, None] + 10 * np.arange(2.0)
    samples = resample(scores, "seeds-and-tasks", 500, np.random.default_rng(0))
    assert {tuple(np.unique(x)) for x in samples[..., 1] - samples[..., 0]} == {(-10,), (0,), (10,)}


def test_the_spread_of_means_under_both_schemes() -> None:
    """The variance of the bootstrap mean is known: within tasks Σ_t s_t² / (n T²); over both, that of the
    two-way bootstrap of an additive table, s_seeds²/n + s_tasks²/T (variances with divisor n)."""
    rng = np.random.default_rng(5)
    by_seed, by_task = rng.normal(size=(6, 1)), 3 * rng.normal(size=(1, 8))
    additive = by_seed + by_task
    both = resample(additive, "seeds-and-tasks", 20_000, rng).mean(axis=(1, 2))
    assert both.var() == pytest.approx(by_seed.var() / 6 + by_task.var() / 8, rel=0.05)
    within = resample(additive, "seeds-within-tasks", 20_000, rng).mean(axis=(1, 2))
    assert within.var() == pytest.approx(additive.var(axis=0).sum() / (6 * 64), rel=0.05)


@pytest.mark.parametrize("scheme", ["seeds-within-tasks", "seeds-and-tasks"])
def test_an_interval_holds_its_estimate_and_follows_from_the_seed(scheme: str) -> None:
    scores = np.random.default_rng(3).normal(size=(10, 6))
    found = interval(scores, scheme=scheme, seed=4)
    assert found.low < found.estimate < found.high
    assert found == interval(scores, scheme=scheme, seed=4)
    wider = interval(scores, scheme=scheme, seed=4, confidence=0.99)
    assert wider.low < found.low < found.high < wider.high
    moved = interval(10 * scores + 7, scheme=scheme, seed=4)
    assert ends(moved) == pytest.approx((10 * found.low + 7, 10 * found.high + 7))


@pytest.mark.parametrize("scheme", ["seeds-within-tasks", "seeds-and-tasks"])
def test_scores_without_spread_have_an_interval_of_no_width(scheme: str) -> None:
    found = interval(np.full((5, 2), 500.0), scheme=scheme)
    assert (found.estimate, *ends(found)) == pytest.approx((500, 500, 500))


def test_a_difference_of_pairs_is_that_of_the_seeds() -> None:
    """What all seeds have in common cancels."""
    rng = np.random.default_rng(6)
    common = 100 * rng.normal(size=(8, 1))
    ours, theirs = common + 1 + 0.1 * rng.normal(size=(8, 1)), common
    paired, apart = difference(ours, theirs, paired=True), difference(ours, theirs)
    assert 0.5 < paired.low < paired.estimate < paired.high < 1.5
    assert paired.estimate == pytest.approx(interquartile_mean(ours - theirs))
    assert apart.low < -20 < 20 < apart.high


def test_a_difference_of_means_is_welch_s() -> None:
    rng = np.random.default_rng(7)
    ours, theirs = rng.normal(1, 1, size=(30, 1)), rng.normal(size=(25, 1))
    found = difference(ours, theirs, statistic=mean, resamples=50_000)
    expected = stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False).confidence_interval()
    assert found.estimate == pytest.approx(ours.mean() - theirs.mean())
    assert ends(found) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_tasks_that_both_share_cancel_in_a_difference() -> None:
    rng = np.random.default_rng(8)
    by_task = 100 * rng.normal(size=(1, 10))
    ours, theirs = 1 + by_task + rng.normal(size=(6, 10)), by_task + rng.normal(size=(5, 10))
    found = difference(ours, theirs, statistic=mean, scheme="seeds-and-tasks")
    assert -1 < found.low < 1 < found.high < 3


@pytest.mark.parametrize(("seeds", "tasks", "freedom"), [(8, 3, 2), (3, 8, 2), (6, 1, 5)])
def test_of_seeds_and_tasks_the_fewer_widen_the_interval(seeds: int, tasks: int, freedom: int) -> None:
    """Recomputed from the very samples, at the level of that many degrees of freedom."""
    scores = np.random.default_rng(4).normal(size=(seeds, tasks))
    found = interval(scores, scheme="seeds-and-tasks", resamples=200, seed=3)
    values = interquartile_mean(resample(scores, "seeds-and-tasks", 200, np.random.default_rng(3)))
    level = stats.norm.cdf(np.sqrt(seeds / (seeds - 1)) * stats.t.ppf(0.025, freedom))
    assert ends(found) == pytest.approx(tuple(np.quantile(values, [level, 1 - level])))


def newcombe(p: float, ours: int, theirs: int) -> float:
    """The standard error of method 5 at p."""
    more = (ours + theirs) / 2 - 1
    return np.sqrt(p * (1 - p) * (1 + more * ((1 - p) / (2 - p) + p / (1 + p))) / (ours * theirs))


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_interval_of_the_improvement_ends_where_its_own_standard_error_says(tasks: int) -> None:
    """The scores of each task are the same, and count as those of others."""
    rng = np.random.default_rng(9)
    ours, theirs = (np.tile(rng.normal(m, size=(n, 1)), tasks) for m, n in ((0.5, 9), (0.0, 7)))
    found = improvement_interval(ours, theirs)
    assert found.estimate == pytest.approx(probability_of_improvement(ours, theirs))
    reach = np.sqrt(7 / 6) * stats.t.ppf(0.975, 14 * tasks)
    for end in ends(found):
        error = newcombe(end, 9, 7) / np.sqrt(tasks)
        assert abs(end - found.estimate) == pytest.approx(reach * error)
    turned = improvement_interval(theirs, ours)
    assert ends(turned) == pytest.approx((1 - found.high, 1 - found.low))


def test_runs_that_are_all_better_are_not_certain_to_be() -> None:
    ours, theirs = 10 + np.arange(5.0)[:, None], np.arange(5.0)[:, None]
    found = improvement_interval(ours, theirs)
    assert (found.estimate, found.high) == (1, 1)
    assert 0.5 < found.low < 0.8
    many = improvement_interval(10 + np.arange(50.0)[:, None] / 50, np.arange(50.0)[:, None] / 50)
    assert found.low < many.low < 1


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (np.zeros((1, 3)), {}, "fewer than two seeds"),
        (np.zeros(3), {}, r"an array \[seed task\]"),
        (np.array([[1.0], [np.nan]]), {}, "not a finite number"),
        (np.zeros((3, 1)), {"scheme": "seeds"}, "no resampling scheme 'seeds'"),
        (np.zeros((3, 1)), {"confidence": 95.0}, "confidence is 95"),
        (np.zeros((3, 1)), {"resamples": 0}, "resamples is 0"),
    ],
)
def test_bad_input_is_named(scores: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        interval(scores, **options)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
@pytest.mark.parametrize("compare", [difference, improvement_interval])
def test_comparisons_name_a_wrong_confidence(compare: Callable[..., Interval], confidence: float) -> None:
    with pytest.raises(UserError, match="confidence is"):
        compare(np.zeros((3, 1)), np.ones((3, 1)), confidence=confidence)


def test_only_the_same_tasks_are_compared() -> None:
    with pytest.raises(UserError, match="the tasks must be the same"):
        difference(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(UserError, match="the seeds too"):
        difference(np.zeros((3, 2)), np.zeros((4, 2)), paired=True)
    with pytest.raises(UserError, match="of 2 tasks and the baseline's of 1"):
        improvement_interval(np.zeros((3, 2)), np.zeros((3, 1)))
