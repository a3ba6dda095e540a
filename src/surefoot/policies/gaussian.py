"""Gaussian policies, for continuous actions."""

from dataclasses import dataclass
from math import expm1, inf, log
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.networks import MLP, MLPOptions
from surefoot.options import Options, Positive, UserError, check
from surefoot.policies.base import AbstractPolicy, PolicyOptions
from surefoot.theory.distributions import DiagonalGaussian, FullGaussian
from surefoot.types import ActionSpace, Continuous, Key, Observations, ObservationSpace


class GaussianMLPPolicy(AbstractPolicy):
    """π(a|s) = N(μ(s), Σ), with the mean μ from a network, and a learned covariance Σ that does not depend on
    the observation: diagonal, or Σ = C Cᵀ with C = diag(σ) (I + L) and L strictly lower triangular."""

    network: MLP
    raw_log_std: Float[Array, " act"]
    min_log_std: float = eqx.field(static=True)
    action_scale: float = eqx.field(static=True)
    correlation: Float[Array, "act act"] | None = None
    """A matrix whose part below the diagonal is L; None for a diagonal covariance."""

    def __call__(self, observations: Observations) -> DiagonalGaussian | FullGaussian:
        mean = self.action_scale * self.network(observations)
        if self.correlation is None:
            return DiagonalGaussian(mean, jnp.broadcast_to(self.log_std, mean.shape))
        scale = jnp.exp(self.log_std)[:, None] * (jnp.tril(self.correlation, -1) + jnp.eye(mean.shape[-1]))
        return FullGaussian(mean, jnp.broadcast_to(scale, (*mean.shape, mean.shape[-1])))

    @property
    def log_std(self) -> Float[Array, " act"]:
        """log σ, in units of the action. Its lower bound is a softplus; a hard clamp would have no gradient
        below the bound."""
        unscaled = self.min_log_std + jax.nn.softplus(self.raw_log_std - self.min_log_std)
        return unscaled + log(self.action_scale)


@dataclass(frozen=True, kw_only=True)
class StandardDeviationOptions(Options):
    """Options of a learned standard deviation that has a lower bound."""

    initial_std: float = 1.0
    """Continuous actions: initial standard deviation, in units of the action (or of `action_scale`)."""
    min_std: Annotated[float, Positive] = 1e-6
    """Continuous actions: lower bound of the standard deviation, in the same units."""

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        wanted = "above min-std, and finite"
        check(self.min_std < self.initial_std < inf, "initial_std", self.initial_std, wanted)


@dataclass(frozen=True)
class GaussianMLP(MLPOptions, StandardDeviationOptions, PolicyOptions):
    """Policy for continuous actions: N(μ(s), Σ), with an MLP μ and a learned covariance Σ."""

    action_scale: Annotated[float, Positive] = 1.0
    """Size of a typical action: the network's outputs are multiplied by it. A gradient step moves the policy
    by amounts of this size. Implementations that rescale the environment's bounds to ±1 do the same."""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """Covariance of the action dimensions. `diagonal`: they are independent of one another. `full`: they may
    depend on one another; independent at first."""

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> GaussianMLPPolicy:
        if not isinstance(action_space, Continuous):
            raise UserError(
                "A gaussian-mlp policy samples continuous actions, and this environment's are discrete; "
                "use --policy categorical-mlp."
            )
        network = self.network(key, observation_space, action_space.size)
        lower = log(self.min_std)
        above = log(self.initial_std) - lower
        raw = lower + above + log(-expm1(-above))
        size, full = action_space.size, self.covariance == "full"
        raw_log_std, correlation = jnp.full(size, raw, float), jnp.zeros((size, size)) if full else None
        return GaussianMLPPolicy(network, raw_log_std, lower, self.action_scale, correlation)
