"""A policy that remembers, by gated recurrent units (Cho et al., 2014)."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from surefoot.options import check
from surefoot.policies.base import AbstractPolicy, AbstractRecurrentPolicy, PolicyOptions
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.types import ActionSpace, Key


class GRUPolicy(AbstractRecurrentPolicy):
    """π(a | h_t) with h_t = GRU(s_t, h_{t−1}). Its derivatives go through time, to the beginning of the row
    or of the episode."""

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
        remember = self.cell
        for _ in observations.shape[:-1]:
            remember = jax.vmap(remember)
        memory = remember(observations, memory)
        return self.head(memory), memory

    def unroll(
        self,
        observations: Float[Array, "*axes time obs"],
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> AbstractDistribution:
        remember = self.cell
        for _ in memory.shape[:-1]:
            remember = jax.vmap(remember)

        def advance(memory: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            observation, start = now
            memory = remember(observation, jnp.where(start[..., None], 0.0, memory))
            return memory, memory

        time_first = jnp.moveaxis(observations, -2, 0), jnp.moveaxis(starts, -1, 0)
        _, features = jax.lax.scan(advance, memory, time_first)
        return self.head(jnp.moveaxis(features, 0, -2))


@dataclass(frozen=True)
class GRU(HeadOptions, PolicyOptions):
    """For either kind of action, where the observation does not tell all: gated recurrent units, and a linear
    map from what they remember."""

    units: int = 32
    """Numbers it remembers."""

    def __post_init__(self) -> None:
        HeadOptions.__post_init__(self)
        check(self.units >= 1, "units", self.units, "1 or more")

    def build(self, key: Key, observation_size: int, action_space: ActionSpace) -> GRUPolicy:
        cell_key, head_key = jax.random.split(key)
        cell = eqx.nn.GRUCell(observation_size, self.units, key=cell_key)
        return GRUPolicy(cell, self.head(head_key, self.units, action_space))
