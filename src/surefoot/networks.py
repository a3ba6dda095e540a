"""Multilayer perceptrons: the network inside feed-forward policies and value functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.options import check
from surefoot.types import Key

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "elu": jax.nn.elu, "silu": jax.nn.silu}
INITIALISERS = {
    "glorot": jax.nn.initializers.glorot_uniform,
    "lecun": jax.nn.initializers.lecun_normal,
    "he": jax.nn.initializers.he_normal,
    "orthogonal": jax.nn.initializers.orthogonal,
}


@dataclass(frozen=True)
class MLPOptions:
    """The size and shape of a perceptron."""

    hidden: tuple[int, ...] = (64, 64)
    """Units of each hidden layer; none for a linear map."""
    activation: Literal["relu", "tanh", "elu", "silu"] = "tanh"
    initialiser: Literal["glorot", "lecun", "he", "orthogonal"] = "glorot"
    """Of the weights; biases start at zero."""
    output_scale: float = 1.0
    """Multiplies the last layer's initial weights: small values start near a uniform, or centred, policy."""

    def __post_init__(self) -> None:
        check(all(units >= 1 for units in self.hidden), "hidden", self.hidden, "layer sizes of 1 or more")
        check(0 <= self.output_scale < inf, "output_scale", self.output_scale, "0 or more, and finite")

    def network(self, key: Key, inputs: int, outputs: int) -> "MLP":
        sizes = (inputs, *self.hidden, outputs)
        initialise = INITIALISERS[self.initialiser]()
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
        weights = [initialise(k, (rows, columns), float) for k, rows, columns in pairs]
        weights[-1] = weights[-1] * self.output_scale
        return MLP(weights, [jnp.zeros(columns) for columns in sizes[1:]], self.activation)


class MLP(eqx.Module):
    """x ← activation(x W + b), layer by layer; the last one has no activation."""

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    activation: str = eqx.field(static=True)

    def __init__(self, weights: Sequence[Array], biases: Sequence[Array], activation: str) -> None:
        self.weights, self.biases, self.activation = tuple(weights), tuple(biases), activation

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        # Products of whole batches: a vmap of matrix-vector products transposes them on the way.
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = last
        return x @ weight + bias
