"""Encoders: from observations, which may be images or dictionaries, to the vectors that a network's layers
take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from surefoot.options import Options
from surefoot.types import Key, Observations, ObservationSpace, as_space, is_image

EncoderName = Literal["auto", "nature", "nips", "small", "flat"]


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(Options):
    """Option of a network that observations may reach as images."""

    encoder: EncoderName = "auto"
    """Convolutional network in front of the other layers, for each image in the observation: `nature` (three
    layers), `nips` (two layers, less than half of its work), `small` (one layer), `flat` (none); `auto` takes
    `nature`, `small` or `flat`, by the image's size."""


class Layer(NamedTuple):
    """A convolutional layer's form."""

    kernel: int
    """Height and width of its kernels, in pixels."""
    stride: int
    channels: int
    """Number of its outputs at each place."""


LAYERS: dict[str, tuple[Layer, ...]] = {
    "nature": (Layer(8, 4, 32), Layer(4, 2, 64), Layer(3, 1, 64)),
    "nips": (Layer(8, 4, 16), Layer(4, 2, 32)),
    "small": (Layer(3, 1, 16),),
    "flat": (),
}
"""The convolutional networks: `nature` that of Mnih et al. (2015), `nips` that of Mnih et al. (2013), and
`small` that of MinAtar (Young & Tian, 2019)."""


class ImageEncoder(eqx.Module):
    """A convolutional network: each layer is followed by max(0, ·), and the last one's output is flattened.
    Images of whole numbers are divided by 255 first."""

    kernels: tuple[Float[Array, "_ _ _ _"], ...]
    """Each with the axes `[height width inputs outputs]`."""
    biases: tuple[Float[Array, " _"], ...]
    strides: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def new(cls, key: Key, channels: int, layers: Sequence[Layer]) -> "ImageEncoder":
        """New layers for images of this number of channels, with orthogonal kernels and zero biases."""
        initialise = jax.nn.initializers.orthogonal(2**0.5)
        inputs = (channels, *(layer.channels for layer in layers))
        shapes = [(x.kernel, x.kernel, n, x.channels) for x, n in zip(layers, inputs[:-1], strict=True)]
        keys = jax.random.split(key, len(layers) + 1)
        kernels = [initialise(k, shape, float) for k, shape in zip(keys, shapes, strict=False)]
        return cls(tuple(kernels), tuple(jnp.zeros(n) for n in inputs[1:]), tuple(x.stride for x in layers))

    def __call__(
        self, images: Shaped[Array, "*batch height width channels"]
    ) -> Float[Array, "*batch features"]:
        scale = 255 if jnp.issubdtype(images.dtype, jnp.integer) else 1
        dtype = self.kernels[0].dtype if self.kernels else jnp.zeros(()).dtype
        x = images.astype(dtype) / scale
        for kernel, bias, stride in zip(self.kernels, self.biases, self.strides, strict=True):
            x = jax.nn.relu(convolve(x, kernel, stride) + bias)
        return x.reshape(*x.shape[:-3], -1)


def convolve(
    x: Float[Array, "*batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    stride: int,
) -> Float[Array, "*batch _ _ outputs"]:
    """The convolution without padding, y[k, l] = Σ x[k·stride + i, l·stride + j] kernel[i, j]. The stride
    divides the kernel's height and width.

    It is one product of matrices: on a CPU the gradient of XLA's own convolution takes several times as long,
    and ten times inside a loop. Squares of stride × stride pixels become the channels of one pixel before, so
    that what remains has a stride of 1. Of inputs and outputs, those with fewer channels are laid out once
    for each place of the kernel, since moving memory takes longer than the product.
    """
    x, kernel = _squares_as_channels(x, stride), _squares_as_channels(jnp.moveaxis(kernel, -1, 0), stride)
    outputs, rows, columns, inputs = kernel.shape
    height, width = x.shape[-3] - rows + 1, x.shape[-2] - columns + 1
    places = [(i, j) for i in range(rows) for j in range(columns)]

    def seen_from(place: tuple[int, int], pixels: Array) -> Array:
        i, j = place
        return pixels[..., i : i + height, j : j + width, :]

    if inputs <= outputs:
        return jnp.concatenate([seen_from(place, x) for place in places], -1) @ kernel.reshape(outputs, -1).T
    products = x.reshape(-1, inputs) @ jnp.transpose(kernel, (3, 1, 2, 0)).reshape(inputs, -1)
    products = products.reshape(*x.shape[:-1], len(places), outputs)
    shifted = [seen_from(place, products[..., n, :]) for n, place in enumerate(places)]
    return sum(shifted[1:], start=shifted[0])


def _squares_as_channels(
    x: Float[Array, "*batch height width channels"], size: int
) -> Float[Array, "*batch _ _ _"]:
    """Each square of size × size pixels as one pixel with all their channels. What is left over at the lower
    and right edge is dropped."""
    if size == 1:
        return x
    *batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[..., : rows * size, : columns * size, :]
    x = x.reshape(*batch, rows, size, columns, size, channels)
    return jnp.swapaxes(x, -4, -3).reshape(*batch, rows, columns, size * size * channels)


class Encoder(eqx.Module):
    """From an observation to a vector: vectors as they are, images by a network each, and the parts of a
    dictionary or tuple one after another."""

    parts: tuple[ImageEncoder | None, ...] = (None,)
    """The network of each part of the observation that is an image, and None for vectors."""

    @classmethod
    def new(cls, key: Key, space: ObservationSpace, name: EncoderName) -> "Encoder":
        """A new encoder. Of an image, `auto` takes `nature` from 36 × 36 pixels on, `small` from 3 × 3 on,
        and `flat` below; so does one that is too small for the network that is named."""

        def part(i: int, form: jax.ShapeDtypeStruct) -> ImageEncoder | None:
            if not is_image(form):
                return None
            chosen = LAYERS[_choice(name, min(form.shape[:2]))]
            return ImageEncoder.new(jax.random.fold_in(key, i), form.shape[2], chosen)

        return cls(tuple(part(i, form) for i, form in enumerate(jax.tree.leaves(as_space(space)))))

    def __call__(self, observations: Observations) -> Float[Array, "*batch features"]:
        leaves = jax.tree.leaves(observations)
        pairs = zip(self.parts, leaves, strict=True)
        vectors = [leaf if part is None else part(leaf) for part, leaf in pairs]
        return vectors[0] if len(vectors) == 1 else jnp.concatenate(vectors, axis=-1)

    def size(self, space: ObservationSpace) -> int:
        """The length of the vector for an observation of this space."""
        return eqx.filter_eval_shape(self, as_space(space)).shape[0]


def _choice(name: EncoderName, pixels: int) -> str:
    """The convolutional network for images whose shorter side has this number of pixels."""
    smallest = {"nature": 36, "nips": 20, "small": 3, "flat": 1}
    if name == "auto":
        return next(each for each in ("nature", "small", "flat") if pixels >= smallest[each])
    return name if pixels >= smallest[name] else "flat"
