"""Statistics of runs' scores: interquartile mean, performance profile, probability of improvement.

Scores are an array `[seed task]`: one number for each training run (seed) and task, such as its mean return.
"""

import numpy as np
from jaxtyping import Bool, Float

Scores = Float[np.ndarray, "*axes seed task"]


def interquartile_mean(scores: Scores) -> Float[np.ndarray, "*axes"]:
    """The mean of the middle half of all scores, seeds and tasks together (Agarwal et al., 2021).

    A quarter of the scores is left out at either end; where that is no whole number, the scores at the edge
    count in part. So it does not jump with the number of seeds, as it does where the number left out is
    rounded down: that makes the mean of three scores of three.
    """
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    return np.asarray(ordered @ interquartile_weights(ordered.shape[-1]))


def interquartile_weights(n: int) -> Float[np.ndarray, " n"]:
    """The weight of each of n scores, in ascending order, in their interquartile mean."""
    edges = np.clip(np.arange(n + 1), n / 4, 3 * n / 4)
    return np.diff(edges) / (n / 2)


def mean(scores: Scores) -> Float[np.ndarray, "*axes"]:
    """The mean of all scores."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def performance_profile(
    scores: Float[np.ndarray, "seed task"], thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    """The share of all runs and tasks whose score is above each threshold (Dolan and Moré, 2002; Agarwal et
    al., 2021)."""
    above: Bool[np.ndarray, "thresholds seed task"] = scores > thresholds[:, None, None]
    return above.mean(axis=(1, 2))


def probability_of_improvement(
    scores: Float[np.ndarray, "*axes seed task"], baseline: Float[np.ndarray, "*axes other task"]
) -> Float[np.ndarray, "*axes"]:
    """The probability that a run of the first kind scores higher than one of the baseline on the same task,
    equal scores counting one half; the mean over tasks.

    It is the statistic U of Mann and Whitney (1947) over the number of pairs.
    """
    ours, theirs = scores[..., :, None, :], baseline[..., None, :, :]
    return np.asarray(np.mean((ours > theirs) + 0.5 * (ours == theirs), axis=(-3, -2, -1)))
