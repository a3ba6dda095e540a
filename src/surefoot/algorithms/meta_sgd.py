"""Meta-SGD: MAML that learns a rate for each parameter."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from surefoot.algorithms.gradient_meta import AbstractGradientMeta
from surefoot.policies import AbstractPolicy, AbstractPolicyWrapper, partition_by_role, with_role
from surefoot.types import ObservationSpace


class LearnedRates(AbstractPolicyWrapper):
    """A policy with the parameters θ + exp(ρ/2) ∘ z, where inner steps change z alone, from zero on. What the
    policy itself has as `shared` or as `context` remains so, and has no rates.

    A gradient step of rate α in z moves the parameters by −α exp(ρ) ∘ ∇L: the rates are α exp(ρ), one for
    each parameter, and outer steps change θ and ρ.
    """

    base: Any
    """θ: the policy before adaptation."""
    log_rates: PyTree
    """ρ."""
    offset: PyTree
    """z."""

    @classmethod
    def of(cls, policy: AbstractPolicy) -> "LearnedRates":
        """All rates are equal at first."""
        adapted, _ = partition_by_role(policy, "adapted")
        zeros = jax.tree.map(jnp.zeros_like, adapted)
        return cls(policy, zeros, zeros)  # pyright: ignore[reportCallIssue] (`policy` is computed, no field)

    @property
    def policy(self) -> Any:
        """The policy as it acts."""
        moves = jax.tree.map(lambda rho, z: jnp.exp(rho / 2) * z, self.log_rates, self.offset)
        return eqx.apply_updates(self.base, moves)

    def roles(self) -> PyTree:
        base = jax.tree.map(lambda role: "shared" if role == "adapted" else role, self.base.roles())
        parts = base, with_role(self.offset, "context")
        return eqx.tree_at(lambda p: (p.base, p.offset), with_role(self, "shared"), parts)


@dataclass(frozen=True)
class MetaSGD(AbstractGradientMeta):
    """Meta-SGD (Li et al., 2017): MAML that also learns the rates of the inner step, θ' = θ − a ∘ ∇L, one for
    each parameter.

    With gradient steps inside, the rates are those of the inner rule times exp(ρ), with ρ = 0 at first and
    learned by the outer rule. So they stay positive, which the paper does not ask for. A meta-gradient of
    first order has half of the rates' gradient: it takes z as given, through which the other half goes.
    """

    def meta_policy(self, policy: AbstractPolicy, space: ObservationSpace) -> AbstractPolicy:
        del space
        return LearnedRates.of(policy)
