"""The layers of a causal transformer (Vaswani et al., 2017)."""

from collections.abc import Sequence
from functools import reduce

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from surefoot.networks import MLP

_BASE = 10_000.0
"""The ratio of the fastest to the slowest rotation, nearly, of `rotate` (Su et al., 2021)."""


class Pairs(eqx.Module):
    """Keys and values of some steps, in one layer."""

    keys: Float[Array, "*axes heads step size"]
    values: Float[Array, "*axes heads step size"]


class Block(eqx.Module):
    """A layer: x ← x + attention(norm(x)), then x ← x + f(norm(x)) with a perceptron f (Xiong et al.,
    2020)."""

    projection: MLP
    """To query, key and value."""
    output: MLP
    feedforward: MLP
    heads: int = eqx.field(static=True)

    def project(
        self, x: Float[Array, "*axes time units"], times: Int[Array, "*axes time"]
    ) -> tuple[Float[Array, "*axes heads time size"], Pairs]:
        """Query, and key and value, of each step."""
        query, key, value = map(self._divided, jnp.split(self.projection(standardise(x)), 3, axis=-1))
        return rotate(query, times), Pairs(rotate(key, times), value)

    def __call__(
        self,
        x: Float[Array, "*axes time units"],
        query: Float[Array, "*axes heads time size"],
        own: Pairs,
        others: Sequence[tuple[Pairs, Bool[Array, "*axes time _"]]],
    ) -> Float[Array, "*axes time units"]:
        """The layer's output, where each step attends to itself by its own key and value, and to the steps of
        `others` that are visible to it."""
        seen = attend(query, own, others)
        x += self.output(jnp.swapaxes(seen, -3, -2).reshape(x.shape))
        return x + self.feedforward(standardise(x))

    def _divided(self, x: Float[Array, "*axes time units"]) -> Float[Array, "*axes heads time size"]:
        return jnp.swapaxes(x.reshape(*x.shape[:-1], self.heads, -1), -3, -2)


def attend(
    query: Float[Array, "*axes heads time size"],
    own: Pairs,
    others: Sequence[tuple[Pairs, Bool[Array, "*axes time _"]]],
) -> Float[Array, "*axes heads time size"]:
    """Σ_τ w_τ v_τ with w = softmax(q·k / √size), over a step's own key and value and those of `others` that
    are visible to it (Vaswani et al., 2017).

    Numerator and denominator are added up over the parts, so that these need not be copied into one array.
    """
    query = query * query.shape[-1] ** -0.5
    others = [(pairs, visible) for pairs, visible in others if pairs.keys.shape[-2]]
    itself = jnp.sum(query * own.keys, axis=-1, keepdims=True)
    scores = [
        jnp.where(visible[..., None, :, :], query @ jnp.swapaxes(pairs.keys, -2, -1), -jnp.inf)
        for pairs, visible in others
    ]
    largest = [itself, *(jnp.max(score, axis=-1, keepdims=True) for score in scores)]
    shift = jax.lax.stop_gradient(reduce(jnp.maximum, largest))
    weight = jnp.exp(itself - shift)
    seen, total = weight * own.values, weight
    for (pairs, _), score in zip(others, scores, strict=True):
        weights = jnp.exp(score - shift)
        seen += weights @ pairs.values
        total += jnp.sum(weights, axis=-1, keepdims=True)
    return seen / total


def standardise(x: Float[Array, "*batch units"]) -> Float[Array, "*batch units"]:
    """x less its mean, divided by its standard deviation: a layer norm without parameters, since a linear map
    follows."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def rotate(
    x: Float[Array, "*axes heads time size"], times: Int[Array, "*axes time"]
) -> Float[Array, "*axes heads time size"]:
    """Pairs of each head's elements turned by angles in proportion to the time, so that the product of a
    query and a key depends on how far apart they are (Su et al., 2021)."""
    count = x.shape[-1] // 2
    speeds = _BASE ** -(jnp.arange(count, dtype=x.dtype) / count)
    angles = (times[..., None].astype(x.dtype) * speeds)[..., None, :, :]
    cos, sin, a, b = jnp.cos(angles), jnp.sin(angles), x[..., :count], x[..., count:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
