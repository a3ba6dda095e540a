"""The Gittins index of a Bernoulli arm, by dynamic programming."""

from functools import cache

import numpy as np

from surefoot.options import check

_GRID = 1001
_MOST_PULLS = 300


@cache
def gittins_index(pulls: int, discount: float = 1.0) -> np.ndarray:
    """The index of an arm with a uniform prior after s successes and f failures, with m pulls left:
    `[m − 1, s, f]` for s + f + m ≤ `pulls`, and NaN elsewhere.

    It is the reward ν per pull of a known arm that is as good as this one: the largest mean reward per pull
    until a stopping time,

        ν = max_τ E[Σ_{k<τ} γᵏ r_k] / E[Σ_{k<τ} γᵏ],  1 ≤ τ ≤ m

    (Gittins, 1979; with a finite number of pulls, Niño-Mora, 2011). With γ < 1 and a large m it is the index
    of an arm that can be pulled for ever.

    For each of many ν, backward induction gives the value of pulling, A_m(s, f) = p − ν + γ E[V_{m−1}], and
    V_m = max(0, A_m), with p = (s + 1)/(s + f + 2). The index is where A_m is zero. Between neighbouring ν,
    1/1,000 apart, A_m is interpolated linearly; as it is convex and falls with ν at least at the rate 1, the
    error is less than the distance.
    """
    check(1 <= pulls <= _MOST_PULLS, "pulls", pulls, f"from 1 to {_MOST_PULLS}, whose table fits into memory")
    costs = np.linspace(0.0, 1.0, _GRID)
    successes, failures = np.meshgrid(np.arange(pulls), np.arange(pulls), indexing="ij")
    means = (successes + 1) / (successes + failures + 2)
    table = np.full((pulls, pulls, pulls), np.nan)
    value = np.zeros((pulls + 1, pulls + 1, _GRID))
    for m in range(1, pulls + 1):
        size = pulls - m + 1  # arms with fewer pulls than this so far
        p = means[:size, :size, None]
        following = p * value[1 : size + 1, :size] + (1 - p) * value[:size, 1 : size + 1]
        advantage = p - costs + discount * following
        value = np.maximum(advantage, 0.0)
        reachable = (successes + failures)[:size, :size] < size
        table[m - 1, :size, :size] = np.where(reachable, _zero(advantage, costs), np.nan)
    return table


def _zero(falling: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The costs at which a function of them, which falls along the last axis to zero or less, is zero."""
    at = np.maximum(np.argmax(falling <= 0.0, axis=-1), 1)[..., None]
    high, low = (np.take_along_axis(falling, x, -1) for x in (at - 1, at))
    return (costs[at - 1] + high / (high - low) * (costs[at] - costs[at - 1]))[..., 0]
