"""Minibatches: a batch in parts, so that one collection of data allows many steps."""

import jax
from jaxtyping import Array, Int

from surefoot.types import Key


def shuffled(key: Key, samples: int, minibatches: int) -> Int[Array, "minibatches size"]:
    """The indices of each minibatch: no sample is in two of them, and all have the same size.

    Where `samples` is not a multiple of `minibatches`, the few that are over are left out, others each time.
    """
    size = samples // minibatches
    return jax.random.permutation(key, samples)[: size * minibatches].reshape(minibatches, size)
