"""Action distributions, which a policy returns for an observation.

Each is a pytree over any batch of observations, so a prediction can be differentiated, vmapped and stored.
Log-probabilities, entropies and divergences are *summed* over action dimensions (their mean would make the
importance ratio its d-th root) and in nats.
"""

from abc import abstractmethod
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.types import Key

_LOG_2PI = 1.8378770664093453


class AbstractDistribution(eqx.Module):
    """A distribution over actions for every element of a batch, shape `*batch`."""

    def sample(self, key: Key) -> Array:
        """One action for each element of the batch."""
        return self.sample_from(self.noise(key))

    @abstractmethod
    def noise(self, key: Key) -> Array:
        """The random numbers of `sample`. They depend on the key and on the distribution's shape, not on its
        parameters, and so can be drawn before these are known."""

    @abstractmethod
    def sample_from(self, noise: Array) -> Array:
        """The actions that follow from the parameters and the noise: the sample, reparametrised."""

    @abstractmethod
    def mode(self) -> Array:
        """The most probable action for each element of the batch."""

    @abstractmethod
    def log_prob(self, action: Array) -> Float[Array, "*batch"]:
        """Log-probability (density) of `action`."""

    @abstractmethod
    def entropy(self) -> Float[Array, "*batch"]:
        """H = −E[log p]."""

    @abstractmethod
    def kl(self, other: Any) -> Float[Array, "*batch"]:
        """KL(self ‖ other) = E_self[log p_self − log p_other]; `other` is of the same kind."""


class DiagonalGaussian(AbstractDistribution):
    """Independent normal distributions, one for each action dimension."""

    mean: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]

    def noise(self, key: Key) -> Float[Array, "*batch act"]:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def sample_from(self, noise: Float[Array, "*batch act"]) -> Float[Array, "*batch act"]:
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Float[Array, "*batch act"]:
        return self.mean

    def log_prob(self, action: Float[Array, "*batch act"]) -> Float[Array, "*batch"]:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * (z**2 + _LOG_2PI) - self.log_std, axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        return jnp.sum(0.5 * (1.0 + _LOG_2PI) + self.log_std, axis=-1)

    def kl(self, other: Any) -> Float[Array, "*batch"]:
        """Σ_d log(σ'/σ) + (σ² + (μ − μ')²) / (2σ'²) − ½."""
        ratio = jnp.exp(2.0 * (self.log_std - other.log_std))
        distance = ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return jnp.sum(other.log_std - self.log_std + 0.5 * (ratio + distance - 1.0), axis=-1)


class FullGaussian(AbstractDistribution):
    """A normal distribution whose action dimensions may depend on one another, N(μ, Σ) with Σ = C Cᵀ."""

    mean: Float[Array, "*batch act"]
    scale: Float[Array, "*batch act act"]
    """C, the Cholesky factor of the covariance Σ: lower triangular and positive on its diagonal."""

    def noise(self, key: Key) -> Float[Array, "*batch act"]:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def sample_from(self, noise: Float[Array, "*batch act"]) -> Float[Array, "*batch act"]:
        return self.mean + (self.scale @ noise[..., None])[..., 0]

    def mode(self) -> Float[Array, "*batch act"]:
        return self.mean

    def log_prob(self, action: Float[Array, "*batch act"]) -> Float[Array, "*batch"]:
        """−½ zᵀz − log det C − (d/2) log 2π with z = C⁻¹(a − μ); its slope in μ is Σ⁻¹(a − μ)."""
        z = _solve_lower(self.scale, (action - self.mean)[..., None])[..., 0]
        return jnp.sum(-0.5 * (z**2 + _LOG_2PI), axis=-1) - self._log_det()

    def entropy(self) -> Float[Array, "*batch"]:
        return 0.5 * self.mean.shape[-1] * (1.0 + _LOG_2PI) + self._log_det()

    def kl(self, other: Any) -> Float[Array, "*batch"]:
        """½ (‖C'⁻¹C‖² + ‖C'⁻¹(μ − μ')‖² − d) + log det C' − log det C, with Frobenius' norm."""
        ratio = jnp.sum(_solve_lower(other.scale, self.scale) ** 2, axis=(-2, -1))
        distance = jnp.sum(_solve_lower(other.scale, (self.mean - other.mean)[..., None]) ** 2, axis=(-2, -1))
        return 0.5 * (ratio + distance - self.mean.shape[-1]) + other._log_det() - self._log_det()

    def _log_det(self) -> Float[Array, "*batch"]:
        return jnp.sum(jnp.log(jnp.diagonal(self.scale, axis1=-2, axis2=-1)), axis=-1)


class Categorical(AbstractDistribution):
    """One of n actions, with unnormalised log-probabilities `logits`."""

    logits: Float[Array, "*batch n"]
    """−∞ for an action that is never taken."""

    def noise(self, key: Key) -> Float[Array, "*batch n"]:
        return jax.random.gumbel(key, self.logits.shape, self.logits.dtype)

    def sample_from(self, noise: Float[Array, "*batch n"]) -> Int[Array, "*batch"]:
        """The largest of logits and Gumbel noise (Gumbel, 1954)."""
        return _largest(self.logits + noise)

    def mode(self) -> Int[Array, "*batch"]:
        return _largest(self.logits)

    def log_prob(self, action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        log_probs = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]

    def entropy(self) -> Float[Array, "*batch"]:
        probs, log_probs = _probabilities(self.logits)
        return -jnp.sum(probs * log_probs, axis=-1)

    def kl(self, other: Any) -> Float[Array, "*batch"]:
        """Σ_a p(a) (log p(a) − log p'(a))."""
        p, log_p = _probabilities(self.logits)
        log_q = jnp.where(p > 0, jax.nn.log_softmax(other.logits), 0.0)
        return jnp.sum(p * (log_p - log_q), axis=-1)


class MultiCategorical(AbstractDistribution):
    """Independent categorical distributions, one for each of several integers."""

    logits: Float[Array, "*batch n"]
    """Unnormalised log-probabilities, those of each integer after those of the one before."""
    counts: tuple[int, ...] = eqx.field(static=True)
    """The number of values of each integer; their sum is n."""

    def noise(self, key: Key) -> Float[Array, "*batch n"]:
        return jax.random.gumbel(key, self.logits.shape, self.logits.dtype)

    def sample_from(self, noise: Float[Array, "*batch n"]) -> Int[Array, "*batch act"]:
        pairs = zip(self._parts(self.logits), self._parts(noise), strict=True)
        return jnp.stack([Categorical(logits).sample_from(part) for logits, part in pairs], axis=-1)

    def mode(self) -> Int[Array, "*batch act"]:
        return jnp.stack([part.mode() for part in self._marginals()], axis=-1)

    def log_prob(self, action: Int[Array, "*batch act"]) -> Float[Array, "*batch"]:
        return self._sum(part.log_prob(action[..., i]) for i, part in enumerate(self._marginals()))

    def entropy(self) -> Float[Array, "*batch"]:
        return self._sum(part.entropy() for part in self._marginals())

    def kl(self, other: Any) -> Float[Array, "*batch"]:
        """Σ_i KL(p_i ‖ p'_i), since the integers are independent."""
        pairs = zip(self._marginals(), other._marginals(), strict=True)
        return self._sum(mine.kl(theirs) for mine, theirs in pairs)

    def _parts(self, values: Float[Array, "*batch n"]) -> list[Float[Array, "*batch _"]]:
        return jnp.split(values, list(accumulate(self.counts))[:-1], axis=-1)

    def _marginals(self) -> list[Categorical]:
        return [Categorical(logits) for logits in self._parts(self.logits)]

    def _sum(self, parts: Iterable[Float[Array, "*batch"]]) -> Float[Array, "*batch"]:
        return jnp.sum(jnp.stack(list(parts)), axis=0)


def _largest(scores: Float[Array, "*batch n"]) -> Int[Array, "*batch"]:
    """The index of the largest score: 32 bits, in double precision too."""
    return jax.lax.argmax(scores, scores.ndim - 1, jnp.int32)


def _probabilities(logits: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch n"], ...]:
    """Probabilities and their logarithms; 0 in place of log 0, since p log p tends to 0 there."""
    log_probs = jax.nn.log_softmax(logits)
    probs = jnp.exp(log_probs)
    return probs, jnp.where(probs > 0, log_probs, 0.0)


def _solve_lower(
    lower: Float[Array, "*batch n n"], right: Float[Array, "*batch n k"]
) -> Float[Array, "*batch n k"]:
    """x with `lower` x = `right`, row by row. A batched routine of `jnp.linalg` can hang on two cores."""
    rows: list[Array] = []
    for i in range(lower.shape[-1]):
        known = sum((lower[..., i, j, None] * rows[j] for j in range(i)), jnp.zeros_like(right[..., i, :]))
        rows.append((right[..., i, :] - known) / lower[..., i, i, None])
    return jnp.stack(rows, axis=-2)
