"""The recurrent policy, with gated recurrent units (Cho et al., 2014)."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from surefoot.encoders import Encoder, EncoderOptions
from surefoot.options import Bound, Options, at_least
from surefoot.policies.base import AbstractPolicy, AbstractRecurrentPolicy, PolicyOptions
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace


class AbstractGatedPolicy(AbstractRecurrentPolicy):
    """A policy whose memory is that of gated recurrent units, h_t = GRU(s_t, h_{t−1}). Its derivatives go
    back through time to the beginning of the row or of the episode."""

    encoder: Encoder
    cell: eqx.nn.GRUCell

    @abstractmethod
    def distribution(
        self, inputs: Float[Array, "*batch inputs"], memories: Float[Array, "*batch units"]
    ) -> AbstractDistribution:
        """The distribution at encoded observations s_t, with the memory h_t there."""

    def __call__(self, observations: Observations) -> AbstractDistribution:
        inputs = self.encoder(observations)
        return self.distribution(inputs, unroll_episodes(self.cell, inputs))

    def initial_memory(self) -> Float[Array, " units"]:
        return jnp.zeros(self.cell.hidden_size, self.cell.weight_hh.dtype)

    def act(
        self, observations: Observations, memory: Float[Array, "*batch units"]
    ) -> tuple[AbstractDistribution, Float[Array, "*batch units"]]:
        inputs = self.encoder(observations)
        memory = advance(self.cell, inputs, memory)
        return self.distribution(inputs, memory), memory

    def unroll(
        self,
        observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> AbstractDistribution:
        inputs = self.encoder(observations)
        return self.distribution(inputs, unroll(self.cell, inputs, starts, memory))


class GRUPolicy(AbstractGatedPolicy):
    """π(a | h_t) with h_t = GRU(s_t, h_{t−1})."""

    head: AbstractPolicy

    def distribution(
        self, inputs: Float[Array, "*batch inputs"], memories: Float[Array, "*batch units"]
    ) -> AbstractDistribution:
        del inputs
        return self.head(memories)


def advance(
    cell: eqx.nn.GRUCell, inputs: Float[Array, "*batch inputs"], memory: Float[Array, "*batch units"]
) -> Float[Array, "*batch units"]:
    """The memory after one more step of each row."""
    return _vmapped(cell, inputs.ndim - 1)(inputs, memory)


def unroll(
    cell: eqx.nn.GRUCell,
    inputs: Float[Array, "*axes time inputs"],
    starts: Bool[Array, "*axes time"],
    memory: Float[Array, "*axes units"],
) -> Float[Array, "*axes time units"]:
    """The memory after every step of streams, which is `memory` at first and zero wherever `starts` is
    true."""
    one = _vmapped(cell, memory.ndim - 1)

    def step(memory: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        features, start = inputs
        memory = one(features, jnp.where(start[..., None], 0.0, memory))
        return memory, memory

    time_first = jnp.moveaxis(inputs, -2, 0), jnp.moveaxis(starts, -1, 0)
    _, features = jax.lax.scan(step, memory, time_first)
    return jnp.moveaxis(features, 0, -2)


def unroll_episodes(
    cell: eqx.nn.GRUCell, inputs: Float[Array, "*batch time inputs"]
) -> Float[Array, "*batch time units"]:
    """The memory after every step, where each row is one whole episode."""
    starts = jnp.broadcast_to(jnp.arange(inputs.shape[-2]) == 0, inputs.shape[:-1])
    memory = jnp.zeros((*inputs.shape[:-2], cell.hidden_size), inputs.dtype)
    return unroll(cell, inputs, starts, memory)


def _vmapped(cell: eqx.nn.GRUCell, axes: int) -> Callable[[Array, Array], Array]:
    """The cell, vmapped over this number of leading axes."""
    vmapped: Callable[[Array, Array], Array] = cell
    for _ in range(axes):
        vmapped = jax.vmap(vmapped)
    return vmapped


_TIMES_STREAM, _ENCODER_STREAM = 0x71E5, 0xE2C0
"""Folded into keys that are split as well: `fold_in(key, 1)` is the second key of `split(key)`."""


@dataclass(frozen=True, kw_only=True)
class CellOptions(Options):
    """Options of gated recurrent units."""

    memory_span: Annotated[float | None, Bound(lambda steps: 1 < steps < inf, "above 1, and finite")] = None
    """Longest time, in steps, over which units remember at first: each draws a time τ up to this and gets the
    bias that lets it keep 1 − 1/τ of its memory at every step (chrono initialisation; Tallec & Ollivier,
    2018). None for biases near zero, with which a unit keeps a half of it."""

    def cell(self, key: Key, inputs: int, units: int) -> eqx.nn.GRUCell:
        """New units."""
        cell = eqx.nn.GRUCell(inputs, units, key=key)
        if self.memory_span is None:
            return cell
        times_key = jax.random.fold_in(key, _TIMES_STREAM)
        times = jax.random.uniform(times_key, (units,), float, 1.0, self.memory_span)
        kept = jnp.log(jnp.maximum(times - 1.0, 0.01))
        # Equinox has the biases of reset gates, update gates and candidates one after another.
        bias = jnp.asarray(cell.bias).at[units : 2 * units].set(kept)
        return eqx.tree_at(lambda c: c.bias, cell, bias)


@dataclass(frozen=True)
class GRU(CellOptions, HeadOptions, EncoderOptions, PolicyOptions):
    """Recurrent policy for discrete or continuous actions and partial observations: gated recurrent units,
    and a linear map from their memory to the distribution's parameters."""

    units: Annotated[int, at_least(1)] = 32
    """Number of recurrent units: the size of the memory."""

    def build(self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace) -> GRUPolicy:
        cell_key, head_key = jax.random.split(key)
        encoder = Encoder.new(jax.random.fold_in(key, _ENCODER_STREAM), observation_space, self.encoder)
        cell = self.cell(cell_key, encoder.size(observation_space), self.units)
        return GRUPolicy(encoder, cell, self.head(head_key, self.units, action_space))
