"""Multilayer perceptrons (MLPs): the networks of feed-forward policies and value functions, with an encoder
in front of them where observations are more than vectors."""

from dataclasses import dataclass
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.encoders import Encoder, EncoderOptions
from surefoot.options import Bound, NonNegative, length_at_least
from surefoot.types import Key, Observations, ObservationSpace

LayerSize = Bound(lambda units: units >= 1, "layer sizes of 1 or more")
SomeLayer = length_at_least(1, "one layer or more")
Activation = Literal["relu", "tanh", "elu", "silu"]
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "elu": jax.nn.elu, "silu": jax.nn.silu}
INITIALISERS = {
    "glorot": jax.nn.initializers.glorot_uniform,
    "lecun": jax.nn.initializers.lecun_normal,
    "he": jax.nn.initializers.he_normal,
    "orthogonal": jax.nn.initializers.orthogonal,
}


@dataclass(frozen=True)
class MLPOptions(EncoderOptions):
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

    def network(self, key: Key, space: ObservationSpace, outputs: int) -> "MLP":
        """A new network from observations of this space, or from vectors of `space` numbers, to vectors of
        `outputs` numbers."""
        encoder = Encoder.new(key, space, self.encoder)
        sizes = (encoder.size(space), *self.hidden, outputs)
        initialise = INITIALISERS[self.initialiser]()
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
        weights = [initialise(k, (rows, columns), float) for k, rows, columns in pairs]
        weights[-1] = weights[-1] * self.output_scale
        biases = [jnp.zeros(columns) for columns in sizes[1:]]
        return MLP(tuple(weights), tuple(biases), self.activation, encoder)


class MLP(eqx.Module):
    """A multilayer perceptron: x ← activation(x W + b) in each layer; the last has no activation. The first x
    is what the encoder makes of an observation."""

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    activation: str = eqx.field(static=True)
    encoder: Encoder = Encoder()

    def __call__(self, observations: Observations) -> Float[Array, "*batch outputs"]:
        x = self.encoder(observations)
        # Products of whole batches: a vmap of matrix-vector products would transpose them.
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = ACTIVATIONS[self.activation](x @ weight + bias)
        weight, bias = last
        return x @ weight + bias
