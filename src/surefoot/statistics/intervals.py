"""Confidence intervals of a statistic of scores `[seed task]`, of a difference, and of a probability of
improvement.

Those of statistics are bootstrap intervals: the statistic is computed on samples that are drawn with
replacement from the scores. How often each holds the truth, with how many seeds, and how often others would,
is measured by `benchmarks/coverage.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from surefoot.options import UserError, check
from surefoot.statistics.resampling import check_scheme, resample, seed_indices, task_indices
from surefoot.statistics.scores import Scores, interquartile_mean, probability_of_improvement

Statistic = Callable[[Scores], Float[np.ndarray, "*axes"]]
"""From scores `[... seed task]` to a number for each of the leading axes."""
_TINY = 1e-9
FEWEST_SEEDS = 5
"""Number of seeds below which some of these intervals hold the truth less often than they say."""
FEWEST_TASKS = 5
"""The same of the tasks of a family, where they are resampled: a bootstrap interval reaches no further than
the tasks that were seen."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds the true value with the confidence asked for."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.2f} ({self.low:.2f} … {self.high:.2f})"


def interval(
    scores: np.ndarray,
    *,
    statistic: Statistic = interquartile_mean,
    scheme: str = "seeds-within-tasks",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The statistic of scores `[seed task]` with its confidence interval, the same for the same `seed`.

    It is the expanded percentile interval: quantiles of the bootstrap samples' statistics (Efron, 1979) at
    levels that allow for few seeds (Hesterberg, 2015). Raises `UserError` for fewer than two seeds, scores
    that are not finite, and a scheme that does not exist.
    """
    scores = _checked(scores)
    check_scheme(scheme)
    _check_numbers(confidence, resamples, seed)
    values = statistic(resample(scores, scheme, resamples, np.random.default_rng(seed)))
    level = expanded_level((1 - confidence) / 2, len(scores), freedom_of(scores.shape, scheme))
    low, high = np.quantile(values, [level, 1 - level])
    return Interval(float(statistic(scores)), float(low), float(high))


def difference(
    scores: np.ndarray,
    baseline: np.ndarray,
    *,
    paired: bool = False,
    statistic: Statistic = interquartile_mean,
    scheme: str = "seeds-within-tasks",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The difference of a statistic of scores `[seed task]` from the baseline's, with its expanded percentile
    interval. Where the rows of both are `paired`, such as those of shared seeds, it is the statistic of their
    differences.

    Both are rated on the same tasks. Raises `UserError` as `interval` does, and where shapes do not agree.
    """
    scores, baseline = _checked(scores), _checked(baseline)
    if scores.shape[1] != baseline.shape[1] or (paired and len(scores) != len(baseline)):
        raise UserError(
            f"Scores of shape {scores.shape} cannot be compared with a baseline of shape {baseline.shape}: "
            "the tasks must be the same, and the seeds too where they are paired."
        )
    if paired:
        return interval(
            scores - baseline,
            statistic=statistic,
            scheme=scheme,
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
    check_scheme(scheme)
    _check_numbers(confidence, resamples, seed)
    rng = np.random.default_rng(seed)
    tasks = scores.shape[1]
    columns = task_indices(tasks, scheme, resamples, rng)  # the same for both
    values = [
        statistic(x[seed_indices(len(x), tasks, scheme, resamples, rng), columns]) for x in (scores, baseline)
    ]
    # The spread that few seeds hide is that of the smaller sample; the degrees of freedom are those of both.
    freedom = sum(freedom_of(x.shape, scheme) for x in (scores, baseline))
    level = expanded_level((1 - confidence) / 2, min(len(scores), len(baseline)), freedom)
    low, high = np.quantile(values[0] - values[1], [level, 1 - level])
    return Interval(float(statistic(scores) - statistic(baseline)), float(low), float(high))


def improvement_interval(
    scores: np.ndarray,
    baseline: np.ndarray,
    confidence: float = 0.95,
) -> Interval:
    """The probability of improvement with its score interval (Newcombe, 2006, method 5): all values p that
    are within z standard errors of the estimate, at the standard error that p itself implies.

    For few seeds z is not the normal distribution's 1.96 but larger, as in `expanded`. Nothing is
    resampled, and the interval does not shrink to nothing where all runs of one kind are above all of the
    other. Tasks count as independent. Raises `UserError` as `difference` does.
    """
    from scipy.optimize import root_scalar  # here: commands that need no interval should not wait for it

    _check_numbers(confidence)
    scores, baseline = _checked(scores), _checked(baseline)
    tasks, ours, theirs = scores.shape[1], len(scores), len(baseline)
    if baseline.shape[1] != tasks:
        raise UserError(f"The scores are of {tasks} tasks and the baseline's of {baseline.shape[1]}.")
    estimate = float(probability_of_improvement(scores, baseline))
    fewest, freedom = min(ours, theirs), tasks * (ours + theirs - 2)
    reach = np.sqrt(fewest / (fewest - 1)) * stdtrit(freedom, (1 + confidence) / 2)
    more = (ours + theirs) / 2 - 1

    def excess(p: float) -> float:
        """The squared distance of p from the estimate, less that which is allowed."""
        spread = p * (1 - p) * (1 + more * ((1 - p) / (2 - p) + p / (1 + p))) / (ours * theirs * tasks)
        return (p - estimate) ** 2 - reach**2 * spread

    # At 0 and 1 the spread is none, and an estimate there would be an end of itself.
    inside = float(np.clip(estimate, _TINY, 1 - _TINY))
    low = 0.0 if estimate == 0 else root_scalar(excess, bracket=(0, inside)).root
    high = 1.0 if estimate == 1 else root_scalar(excess, bracket=(inside, 1)).root
    return Interval(estimate, float(low), float(high))


def _checked(scores: np.ndarray) -> Float[np.ndarray, "seed task"]:
    """The scores in double precision. Raises `UserError`."""
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise UserError(f"Scores are an array [seed task]; these have the shape {scores.shape}.")
    if len(scores) < 2:
        raise UserError("The spread over seeds is unknown with fewer than two seeds; train more.")
    if not np.isfinite(scores).all():
        raise UserError("A score is not a finite number; leave the runs out that failed, and say so.")
    return scores


def _check_numbers(confidence: float, resamples: int = 1, seed: int = 0) -> None:
    check(seed >= 0, "seed", seed, "0 or more")
    check(0 < confidence < 1, "confidence", confidence, "above 0 and below 1")
    check(resamples >= 1, "resamples", resamples, "1 or more")


def freedom_of(shape: tuple[int, ...], scheme: str) -> int:
    """Degrees of freedom of the statistic's spread: of all seeds of a suite; of the seeds or the tasks of a
    sample, whichever are fewer."""
    seeds, tasks = shape
    if scheme == "seeds-within-tasks":
        return tasks * (seeds - 1)
    return seeds - 1 if tasks == 1 else min(seeds, tasks) - 1


def expanded_level(tail: float, seeds: int, freedom: int) -> float:
    """The level of the percentile interval's lower end at which the interval of a normal sample's mean has
    the width of Student's t interval (Hesterberg, 2015)."""
    return float(ndtr(np.sqrt(seeds / (seeds - 1)) * stdtrit(freedom, tail)))
