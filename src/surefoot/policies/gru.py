"""The recurrent policy, with gated recurrent units (Cho et al., 2014)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from surefoot.options import at_least
from surefoot.policies.base import AbstractPolicy, AbstractRecurrentPolicy, PolicyOptions
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.types import ActionSpace, Key


class GRUPolicy(AbstractRecurrentPolicy):
    """π(a | h_t) with h_t = GRU(s_t, h_{t−1}). Its derivatives go back through time to the beginning of the
    row or of the episode."""

    cell: eqx.nn.GRUCell
    head: AbstractPolicy

    def __call__(self, observations: Float[Array, "*batch time obs"]) -> AbstractDistribution:
        starts = jnp.broadcast_to(jnp.arange(observations.shape[-2]) == 0, observations.shape[:-1])
        memory = jnp.zeros((*observations.shape[:-2], self.cell.hidden_size), observations.dtype)
        return self.unroll(observations, starts, memory)

    def initial_memory(self) -> Float[Array, " units"]:
        return jnp.zeros(self.cell.hidden_size, self.cell.weight_hh.dtype)

    def act(
        self, observations: Float[Array, "*batch obs"], memory: Float[Array, "*batch units"]
    ) -> tuple[AbstractDistribution, Float[Array, "*batch units"]]:
        memory = self._cell(observations.ndim - 1)(observations, memory)
        return self.head(memory), memory

    def unroll(
        self,
        observations: Float[Array, "*axes time obs"],
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> AbstractDistribution:
        cell = self._cell(memory.ndim - 1)

        def advance(memory: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
            observation, start = inputs
            memory = cell(observation, jnp.where(start[..., None], 0.0, memory))
            return memory, memory

        time_first = jnp.moveaxis(observations, -2, 0), jnp.moveaxis(starts, -1, 0)
        _, features = jax.lax.scan(advance, memory, time_first)
        return self.head(jnp.moveaxis(features, 0, -2))

    def _cell(self, axes: int) -> Callable[[Array, Array], Array]:
        """The cell, vmapped over this number of leading axes."""
        cell = self.cell
        for _ in range(axes):
            cell = jax.vmap(cell)
        return cell


@dataclass(frozen=True)
class GRU(HeadOptions, PolicyOptions):
    """Recurrent policy for discrete or continuous actions and partial observations: gated recurrent units,
    and a linear map from their memory to the distribution's parameters."""

    units: Annotated[int, at_least(1)] = 32
    """Number of recurrent units: the size of the memory."""

    def build(self, key: Key, observation_size: int, action_space: ActionSpace) -> GRUPolicy:
        cell_key, head_key = jax.random.split(key)
        cell = eqx.nn.GRUCell(observation_size, self.units, key=cell_key)
        return GRUPolicy(cell, self.head(head_key, self.units, action_space))
