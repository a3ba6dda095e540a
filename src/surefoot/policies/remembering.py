"""A policy that goes on from a memory."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from surefoot.policies.base import AbstractRecurrentPolicy
from surefoot.theory.distributions import AbstractDistribution
from surefoot.types import Observations, where_rows


class RememberingPolicy(AbstractRecurrentPolicy):
    """A recurrent policy whose episodes begin with a given memory: what it remembers of episodes before."""

    policy: Any
    """The `AbstractRecurrentPolicy`."""
    memory: PyTree
    """The memory with which every episode begins, without leading axes."""

    def __call__(self, observations: Observations) -> AbstractDistribution:
        axes = eqx.filter_eval_shape(lambda x: self.policy(x).entropy(), observations).shape
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (*axes[:-1], *x.shape)), self.memory)
        return self.unroll(observations, jnp.zeros(axes, bool), memory)

    def initial_memory(self) -> PyTree:
        return self.memory

    def act(self, observations: Observations, memory: PyTree) -> tuple[AbstractDistribution, PyTree]:
        return self.policy.act(observations, memory)

    def unroll(
        self, observations: Observations, starts: Bool[Array, "*axes time"], memory: PyTree
    ) -> AbstractDistribution:
        time = starts.ndim - 1

        def advance(memory: PyTree, step: tuple[Observations, Array]) -> tuple[PyTree, AbstractDistribution]:
            observed, start = step
            distribution, memory = self.policy.act(observed, where_rows(start, self.memory, memory))
            return memory, distribution

        time_first = jax.tree.map(lambda x: jnp.moveaxis(x, time, 0), (observations, starts))
        _, distributions = jax.lax.scan(advance, memory, time_first)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, time), distributions)
