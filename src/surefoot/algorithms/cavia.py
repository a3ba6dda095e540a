"""CAVIA: MAML whose inner steps change a context alone, an input beside the observation."""

from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.algorithms.gradient_meta import AbstractGradientMeta
from surefoot.options import at_least
from surefoot.policies import AbstractPolicy, AbstractPolicyWrapper, with_role
from surefoot.types import Observations, ObservationSpace, as_space, vector


class ContextPolicy(AbstractPolicyWrapper):
    """A policy that observes a context φ beside what the environment shows. Inner steps change φ alone, which
    is zero where an adaptation begins; outer steps change all else."""

    policy: Any
    context: Float[Array, " context"]
    axes: int = eqx.field(static=True)
    """Number of axes that one observation's first part has."""

    def observed(self, observations: Observations) -> Observations:
        first = jax.tree.leaves(observations)[0]
        batch = first.shape[: first.ndim - self.axes]
        return {
            "context": jnp.broadcast_to(self.context, (*batch, *self.context.shape)),
            "seen": observations,
        }

    def roles(self) -> PyTree:
        return eqx.tree_at(lambda p: p.context, with_role(self, "shared"), "context")


@dataclass(frozen=True)
class CAVIA(AbstractGradientMeta):
    """Fast context adaptation (Zintgraf et al., 2019): MAML whose inner steps change only a context, a vector
    of inputs beside the observation. Few numbers tell one task from another, and all weights serve all
    tasks."""

    context: Annotated[int, at_least(1)] = 5
    """Number of elements of the context."""

    def policy_space(self, space: ObservationSpace) -> ObservationSpace:
        return {"context": vector(self.context), "seen": space}

    def meta_policy(self, policy: AbstractPolicy, space: ObservationSpace) -> AbstractPolicy:
        axes = len(jax.tree.leaves(as_space(space))[0].shape)
        return ContextPolicy(policy, jnp.zeros(self.context), axes)
