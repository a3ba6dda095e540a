"""Confidence intervals of a statistic of scores `[seed task]`, of a difference, and of a probability of
improvement.

All but the trimmed t are bootstrap intervals: the statistic is computed on samples that are drawn with
replacement from the scores. How often each covers the truth, with how many seeds, is measured by
`benchmarks/coverage.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtrit

from surefoot.options import UserError, check, must_be_one_of
from surefoot.statistics.resampling import check_scheme, resample, seed_indices, task_indices
from surefoot.statistics.scores import Scores, interquartile_mean, probability_of_improvement

Statistic = Callable[[Scores], Float[np.ndarray, "*axes"]]
"""From scores `[... seed task]` to a number for each of the leading axes."""
Ends = Float[np.ndarray, "2"]
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


@dataclass(frozen=True)
class Bootstrap:
    """The scores, the statistic, and samples drawn with replacement from the scores."""

    scores: Float[np.ndarray, "seed task"]
    scheme: str
    samples: Float[np.ndarray, "resample seed task"]
    statistic: Statistic = interquartile_mean

    @classmethod
    def of(
        cls, scores: np.ndarray, scheme: str, resamples: int, seed: int, statistic: Statistic
    ) -> "Bootstrap":
        """Draws the samples."""
        samples = resample(scores, scheme, resamples, np.random.default_rng(seed))
        return cls(scores, scheme, samples, statistic)

    @cached_property
    def estimate(self) -> float:
        """The statistic of the scores."""
        return float(self.statistic(self.scores))

    @cached_property
    def values(self) -> Float[np.ndarray, " resample"]:
        """The statistic of each sample."""
        return self.statistic(self.samples)


def interval(
    scores: np.ndarray,
    *,
    statistic: Statistic = interquartile_mean,
    scheme: str = "seeds-within-tasks",
    method: str = "expanded",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The statistic of scores `[seed task]` with its confidence interval, the same for the same `seed`.

    `expanded`: the percentile interval at levels that allow for few seeds (Hesterberg, 2015).
    `percentile`: quantiles of the bootstrap samples' statistics (Efron, 1979). `bca`: with corrections for
    bias and skewness (Efron, 1987). `studentised`: by the bootstrap distribution of the statistic's distance
    from the estimate in standard errors. `trimmed-t`: by the winsorised variance and Student's t (Tukey and
    McLaughlin, 1963). The last two are for the interquartile mean alone. Raises `UserError` for fewer than
    two seeds, scores that are not finite, and options that do not exist.
    """
    scores = _checked(scores)
    check_scheme(scheme)
    _check_numbers(confidence, resamples, seed)
    must_be_one_of("interval method", method, METHODS, f"There are: {', '.join(METHODS)}.")
    if method in ("studentised", "trimmed-t") and statistic is not interquartile_mean:
        raise UserError(f"The method {method} is for the interquartile mean; use another method.")
    bootstrap = Bootstrap.of(scores, scheme, resamples, seed, statistic)
    low, high = METHODS[method](bootstrap, (1 - confidence) / 2)
    return Interval(bootstrap.estimate, float(low), float(high))


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
    freedom = sum(_freedom(x.shape, scheme) for x in (scores, baseline))
    level = _expanded_level((1 - confidence) / 2, min(len(scores), len(baseline)), freedom)
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


def _freedom(shape: tuple[int, ...], scheme: str) -> int:
    """Degrees of freedom of the statistic's spread: of all seeds of a suite; of the seeds or the tasks of a
    sample, whichever are fewer."""
    seeds, tasks = shape
    if scheme == "seeds-within-tasks":
        return tasks * (seeds - 1)
    return seeds - 1 if tasks == 1 else min(seeds, tasks) - 1


def _expanded_level(tail: float, seeds: int, freedom: int) -> float:
    """The level of the percentile interval's lower end at which the interval of a normal sample's mean has
    the width of Student's t interval (Hesterberg, 2015)."""
    return float(ndtr(np.sqrt(seeds / (seeds - 1)) * stdtrit(freedom, tail)))


def _expanded(bootstrap: Bootstrap, tail: float) -> Ends:
    shape = bootstrap.scores.shape
    level = _expanded_level(tail, shape[0], _freedom(shape, bootstrap.scheme))
    return np.quantile(bootstrap.values, [level, 1 - level])


def _percentile(bootstrap: Bootstrap, tail: float) -> Ends:
    return np.quantile(bootstrap.values, [tail, 1 - tail])


def _bca(bootstrap: Bootstrap, tail: float) -> Ends:
    """Bias by the share of samples below the estimate, acceleration by the jackknife over seeds."""
    values, estimate, scores = bootstrap.values, bootstrap.estimate, bootstrap.scores
    # Of equal values, which few seeds give, half count as below.
    below = np.mean((values < estimate) + 0.5 * (values == estimate))
    bias = ndtri(np.clip(below, 1 / (2 * len(values)), 1 - 1 / (2 * len(values))))
    jackknife = bootstrap.statistic(np.stack([np.delete(scores, i, axis=0) for i in range(len(scores))]))
    pull = jackknife.mean() - jackknife
    scale = np.sum(pull**2) ** 1.5
    acceleration = np.sum(pull**3) / (6 * scale) if scale > 0 else 0.0
    z = bias + ndtri([tail, 1 - tail])
    return np.quantile(values, ndtr(bias + z / (1 - acceleration * z)))


def _studentised(bootstrap: Bootstrap, tail: float) -> Ends:
    """Samples without spread lie infinitely many standard errors away, unless they equal the estimate."""
    error, errors = (standard_error(x, bootstrap.scheme)[0] for x in (bootstrap.scores, bootstrap.samples))
    away = bootstrap.values - bootstrap.estimate
    ratio = np.where(away == 0, 0.0, np.copysign(np.inf, away))
    np.divide(away, errors, out=ratio, where=errors > 0)
    low, high = np.quantile(ratio, [tail, 1 - tail], method="inverted_cdf")
    reach = np.array([-high, -low]) * error if error > 0 else np.zeros(2)
    return bootstrap.estimate + reach


def _trimmed_t(bootstrap: Bootstrap, tail: float) -> Ends:
    error, freedom = standard_error(bootstrap.scores, bootstrap.scheme)
    half = stdtrit(freedom, 1 - tail) * error
    return bootstrap.estimate + np.array([-half, half])


METHODS: dict[str, Callable[[Bootstrap, float], Ends]] = {
    "expanded": _expanded,
    "percentile": _percentile,
    "bca": _bca,
    "studentised": _studentised,
    "trimmed-t": _trimmed_t,
}
"""From scores and the probability beyond either end to an interval's ends."""


def standard_error(
    scores: Scores, scheme: str
) -> tuple[Float[np.ndarray, "*axes"], Float[np.ndarray, "*axes"]]:
    """The standard error of the interquartile mean, and its degrees of freedom.

    The scores beyond the middle half are set to its edges (winsorised), and the spread of their mean is
    doubled, as half of them are left out (Tukey and McLaughlin, 1963). Over tasks of a suite the variances
    add; over seeds and tasks of a family, those of the means over the other. Degrees of freedom are
    Satterthwaite's (1946).
    """
    seeds, tasks = scores.shape[-2:]
    values = 2 * _winsorised(scores)
    kept = seeds - 2 * (seeds // 4)
    if scheme == "seeds-within-tasks":
        parts = values.var(axis=-2, ddof=1) / (seeds * tasks**2)
        freedoms = np.full(tasks, kept - 1.0)
    else:
        by_seed = values.mean(axis=-1).var(axis=-1, ddof=1) / seeds
        by_task = values.mean(axis=-2).var(axis=-1, ddof=1) / tasks if tasks > 1 else 0 * by_seed
        parts, freedoms = np.stack([by_seed, by_task], axis=-1), np.array([kept - 1.0, max(tasks - 1.0, 1.0)])
    variance, spread = parts.sum(axis=-1), np.sum(parts**2 / freedoms, axis=-1)
    freedom = np.full_like(variance, freedoms[0])
    np.divide(variance**2, spread, out=freedom, where=spread > 0)
    return np.asarray(np.sqrt(variance)), np.asarray(freedom)


def _winsorised(scores: Scores) -> Scores:
    """The scores with the lowest and the highest quarter, rounded down, set to the nearest of the others."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.clip(scores, flat[..., cut, None, None], flat[..., -1 - cut, None, None])
