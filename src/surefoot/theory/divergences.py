"""Divergences between two policies, and the entropy of one."""

from jaxtyping import Array, Bool, Float

from surefoot.theory.averages import valid_mean
from surefoot.theory.distributions import AbstractDistribution


def mean_kl(
    old: AbstractDistribution, new: AbstractDistribution, valid: Bool[Array, "*axes"]
) -> Float[Array, ""]:
    """KL(old ‖ new), averaged over valid steps: the direction that TRPO constrains (Schulman et al., 2015,
    eq. 12)."""
    return valid_mean(old.kl(new), valid)


def mean_entropy(distribution: AbstractDistribution, valid: Bool[Array, "*axes"]) -> Float[Array, ""]:
    """H(π(·|s)), averaged over valid steps."""
    return valid_mean(distribution.entropy(), valid)
