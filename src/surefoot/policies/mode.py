"""A policy that takes the most probable action of another one."""

from typing import Any

from jaxtyping import Array, Float

from surefoot.policies.wrapper import AbstractPolicyWrapper
from surefoot.theory.distributions import AbstractDistribution


class Mode(AbstractDistribution):
    """A distribution of which every sample is its mode."""

    distribution: AbstractDistribution

    def noise(self, key: Any) -> Array:
        return self.distribution.noise(key)

    def sample_from(self, noise: Array) -> Array:
        del noise
        return self.distribution.mode()

    def mode(self) -> Array:
        return self.distribution.mode()

    def log_prob(self, action: Array) -> Float[Array, "*batch"]:
        return self.distribution.log_prob(action)

    def entropy(self) -> Float[Array, "*batch"]:
        return self.distribution.entropy()

    def kl(self, other: Any) -> Float[Array, "*batch"]:
        return self.distribution.kl(other.distribution)


class ModePolicy(AbstractPolicyWrapper):
    """A policy that takes the mode of another policy's distribution: the deterministic policy by which
    published results are evaluated."""

    policy: Any

    def distributed(self, distribution: AbstractDistribution) -> Mode:
        return Mode(distribution)
