"""Other confidence intervals of the interquartile mean, with which `surefoot.statistics`' are compared.

`percentile`: quantiles of the bootstrap samples' statistics (Efron, 1979). `bca`: with corrections for bias
and skewness (Efron, 1987). `studentised`: by the bootstrap distribution of the statistic's distance from the
estimate in standard errors. `trimmed-t`: by the winsorised variance and Student's t (Tukey and McLaughlin,
1963). `expanded` is the library's, from the same samples as the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtrit

from surefoot.statistics import interquartile_mean
from surefoot.statistics.intervals import expanded_level, freedom_of
from surefoot.statistics.resampling import resample
from surefoot.statistics.scores import Scores

Ends = Float[np.ndarray, "2"]


@dataclass(frozen=True)
class Bootstrap:
    """Scores, and samples drawn with replacement from the scores."""

    scores: Float[np.ndarray, "seed task"]
    scheme: str
    samples: Float[np.ndarray, "resample seed task"]

    @classmethod
    def of(cls, scores: np.ndarray, scheme: str, resamples: int, seed: int) -> "Bootstrap":
        """Draws the samples."""
        return cls(scores, scheme, resample(scores, scheme, resamples, np.random.default_rng(seed)))

    @cached_property
    def estimate(self) -> float:
        """The interquartile mean of the scores."""
        return float(interquartile_mean(self.scores))

    @cached_property
    def values(self) -> Float[np.ndarray, " resample"]:
        """The interquartile mean of each sample."""
        return interquartile_mean(self.samples)


def _expanded(bootstrap: Bootstrap, tail: float) -> Ends:
    shape = bootstrap.scores.shape
    level = expanded_level(tail, shape[0], freedom_of(shape, bootstrap.scheme))
    return np.quantile(bootstrap.values, [level, 1 - level])


def _percentile(bootstrap: Bootstrap, tail: float) -> Ends:
    return np.quantile(bootstrap.values, [tail, 1 - tail])


def _bca(bootstrap: Bootstrap, tail: float) -> Ends:
    """Bias by the share of samples below the estimate, acceleration by the jackknife over seeds."""
    values, estimate, scores = bootstrap.values, bootstrap.estimate, bootstrap.scores
    # Of equal values, which few seeds give, half count as below.
    below = np.mean((values < estimate) + 0.5 * (values == estimate))
    bias = ndtri(np.clip(below, 1 / (2 * len(values)), 1 - 1 / (2 * len(values))))
    jackknife = interquartile_mean(np.stack([np.delete(scores, i, axis=0) for i in range(len(scores))]))
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
