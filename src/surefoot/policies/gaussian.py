"""Gaussian policies, for continuous actions."""

from dataclasses import dataclass
from math import expm1, inf, log

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.networks import MLP, MLPOptions
from surefoot.options import UserError, check
from surefoot.policies.base import AbstractPolicy, PolicyOptions
from surefoot.theory.distributions import DiagonalGaussian
from surefoot.types import ActionSpace, Continuous, Key


class GaussianMLPPolicy(AbstractPolicy):
    """N(μ(s), σ²): the mean from a network, a standard deviation for each action dimension that is learned
    and does not depend on the observation."""

    network: MLP
    raw_log_std: Float[Array, " act"]
    min_log_std: float = eqx.field(static=True)
    action_scale: float = eqx.field(static=True)

    def __call__(self, observations: Float[Array, "*batch obs"]) -> DiagonalGaussian:
        mean = self.action_scale * self.network(observations)
        return DiagonalGaussian(mean, jnp.broadcast_to(self.log_std, mean.shape))

    @property
    def log_std(self) -> Float[Array, " act"]:
        """In units of the action. Bounded below by a softplus. A hard clamp has no gradient beneath its
        bound: what falls there stays there."""
        unscaled = self.min_log_std + jax.nn.softplus(self.raw_log_std - self.min_log_std)
        return unscaled + log(self.action_scale)


@dataclass(frozen=True)
class GaussianMLP(MLPOptions, PolicyOptions):
    """For continuous actions: N(μ(s), σ²), with μ from a perceptron and σ learned beside it."""

    initial_std: float = 1.0
    """The standard deviation it starts with, in units of `action_scale`."""
    min_std: float = 1e-6
    """The standard deviation stays above this, in units of `action_scale`."""
    action_scale: float = 1.0
    """The action that the network means by 1. A gradient step of a given rate moves the policy by amounts of
    this size: set it to the size of a typical action, as implementations do that rescale the environment's
    bounds to ±1."""

    def __post_init__(self) -> None:
        MLPOptions.__post_init__(self)
        check(self.min_std > 0, "min_std", self.min_std, "above 0")
        check(0 < self.action_scale < inf, "action_scale", self.action_scale, "above 0, and finite")
        wanted = "above min-std, and finite"
        check(self.min_std < self.initial_std < inf, "initial_std", self.initial_std, wanted)

    def build(self, key: Key, observation_size: int, action_space: ActionSpace) -> GaussianMLPPolicy:
        if not isinstance(action_space, Continuous):
            raise UserError(
                "A gaussian-mlp policy draws continuous actions and this environment's are discrete; "
                "use --policy categorical-mlp."
            )
        network = self.network(key, observation_size, action_space.size)
        lower = log(self.min_std)
        above = log(self.initial_std) - lower
        raw = lower + above + log(-expm1(-above))
        raw_log_std = jnp.full(action_space.size, raw, float)
        return GaussianMLPPolicy(network, raw_log_std, lower, self.action_scale)
