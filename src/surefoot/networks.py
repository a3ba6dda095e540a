"""Multilayer perceptrons (MLPs): the networks of feed-forward policies and value functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.options import Bound, NonNegative, Options
from surefoot.types import Key

LayerSize = Bound(lambda units: units >= 1, "layer sizes of 1 or more")
Activation = Literal["relu", "tanh", "elu", "silu"]
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "elu": jax.nn.elu, "silu": jax.nn.silu}
INITIALISERS = {
    "glorot": jax.nn.initializers.glorot_uniform,
    "lecun": jax.nn.initializers.lecun_normal,
    "he": jax.nn.initializers.he_normal,
    "orthogonal": jax.nn.initializers.orthogonal,
}


@dataclass(frozen=True)
class MLPOptions(Options):
    """Options of an MLP."""

    hidden: Annotated[tuple[int, ...], LayerSize] = (64, 64)
    """Number of units in each hidden layer; no layer gives a linear map."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers."""
    initialiser: Literal["glorot", "lecun", "he", "orthogonal"] = "glorot"
    """Initialiser of the weights; biases start at zero."""
    output_scale: Annotated[float, NonNegative] = 1.0
    """Factor of the last layer's initial weights. A policy with small ones starts near a uniform, or centred,
    distribution."""

    def network(self, key: Key, inputs: int, outputs: int) -> "MLP":
        """A new network from vectors of `inputs` numbers to vectors of `outputs` numbers."""
        sizes = (inputs, *self.hidden, outputs)
        initialise = INITIALISERS[self.initialiser]()
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
        weights = [initialise(k, (rows, columns), float) for k, rows, columns in pairs]
        weights[-1] = weights[-1] * self.output_scale
        return MLP(weights, [jnp.zeros(columns) for columns in sizes[1:]], self.activation)


class MLP(eqx.Module):
    """A multilayer perceptron: x ← activation(x W + b) in each layer; the last has no activation."""

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    activation: str = eqx.field(static=True)

    def __init__(self, weights: Sequence[Array], biases: Sequence[Array], activation: str) -> None:
        self.weights, self.biases, self.activation = tuple(weights), tuple(biases), activation

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        # Products of whole batches: a vmap of matrix-vector products would transpose them.
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = last
        return x @ weight + bias
