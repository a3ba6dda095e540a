"""Resampling: the indices of bootstrap samples of scores `[seed task]`."""

import numpy as np
from jaxtyping import Float, Int

from surefoot.options import must_be_one_of

SCHEMES = ("seeds-within-tasks", "seeds-and-tasks")
"""The names of the schemes: which of seeds and tasks are a random sample.

`seeds-within-tasks`: the tasks are a fixed suite, and every task was trained with seeds of its own.
`seeds-and-tasks`: the tasks are a sample of a family, and every seed was rated on each of them.
"""


def check_scheme(scheme: str) -> None:
    """Raises `UserError` if there is no such scheme."""
    must_be_one_of("resampling scheme", scheme, SCHEMES, f"There are: {', '.join(SCHEMES)}.")


def resample(
    scores: Float[np.ndarray, "seed task"], scheme: str, resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resample seed task"]:
    """Bootstrap samples of the scores."""
    seeds, tasks = scores.shape
    rows = seed_indices(seeds, tasks, scheme, resamples, rng)
    return scores[rows, task_indices(tasks, scheme, resamples, rng)]


def seed_indices(
    seeds: int, tasks: int, scheme: str, resamples: int, rng: np.random.Generator
) -> Int[np.ndarray, "resample seed tasks_or_1"]:
    """Indices of seeds: drawn for every task anew within a fixed suite, otherwise once for all tasks."""
    return rng.integers(seeds, size=(resamples, seeds, tasks if scheme == "seeds-within-tasks" else 1))


def task_indices(
    tasks: int, scheme: str, resamples: int, rng: np.random.Generator
) -> Int[np.ndarray, "resample_or_1 1 task"]:
    """Indices of tasks: those of a fixed suite, or drawn."""
    if scheme == "seeds-within-tasks" or tasks == 1:
        return np.arange(tasks)[None, None]
    return rng.integers(tasks, size=(resamples, 1, tasks))
