"""Minibatches: a batch divided into parts, each of which gives one step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from surefoot.types import Key

_SORTABLE = 2**16
"""Number of samples up to which an index and enough random bits fit into one word."""


def shuffled(
    key: Key, samples: int, minibatches: int, valid: Bool[Array, " samples"] | None = None
) -> Int[Array, "minibatches size"]:
    """The indices of each minibatch: no sample is in two of them, and all have the same size.

    Where `samples` is not a multiple of `minibatches`, the remaining few are left out, others each time.
    Valid samples (all, if `valid` is not given) are distributed evenly: their numbers in any two minibatches
    differ by at most one.
    """
    size = samples // minibatches
    order = _permutation(key, samples, valid)
    # Sample i of the order goes to minibatch i modulo their number; the valid ones come first.
    return order[: size * minibatches].reshape(size, minibatches).T


def _permutation(key: Key, samples: int, valid: Bool[Array, " samples"] | None) -> Int[Array, " samples"]:
    """A random order of the valid samples, and then of the rest. Sorting words, with the index in the low
    bits, noise above and validity on top, takes XLA on a CPU a fifteenth of the time of sorting indices by
    keys. Samples whose noise is equal, one pair in 2¹⁵ or fewer, stay in their order."""
    if samples > _SORTABLE:
        order = jax.random.permutation(key, samples)
        return order if valid is None else order[jnp.argsort(~valid[order], stable=True)]
    low = jnp.uint32((1 << max(1, (samples - 1).bit_length())) - 1)
    noise = (jax.random.bits(key, (samples,), jnp.uint32) >> 1) & ~low
    if valid is not None:
        noise |= (~valid).astype(jnp.uint32) << 31
    words = jnp.sort(noise | jnp.arange(samples, dtype=jnp.uint32))
    return (words & low).astype(jnp.int32)
