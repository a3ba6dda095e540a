"""Asynchronous gradients: steps along gradients that belong to earlier parameters."""

from math import pi, sin


def largest_stable_rate(staleness: int, curvature: float = 1.0) -> float:
    """α h < 2 sin(π / (2(2d + 1))): the rate below which θ ← θ − α h θ_old converges, where θ_old is d =
    `staleness` updates old and h = `curvature` is positive (Levin & May, 1976).

    Returns the bound of α.
    """
    return 2.0 * sin(pi / (2 * (2 * staleness + 1))) / curvature
