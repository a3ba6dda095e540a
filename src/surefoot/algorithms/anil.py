"""ANIL: MAML whose inner steps change the last layer only."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from surefoot.algorithms.gradient_meta import AbstractGradientMeta
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy, AbstractPolicyWrapper, with_role
from surefoot.types import ObservationSpace


class HeadAdapted(AbstractPolicyWrapper):
    """A perceptron policy whose last layer alone is `adapted`; all else is `shared`."""

    policy: Any
    adapts_std: bool = eqx.field(static=True)
    """Whether the standard deviation is adapted too."""

    def roles(self) -> PyTree:
        def head(tree: Any) -> list[Any]:
            network = tree.policy.network
            leaves = [network.weights[-1], network.biases[-1]]
            if self.adapts_std and hasattr(tree.policy, "raw_log_std"):
                leaves.append(tree.policy.raw_log_std)
                if getattr(tree.policy, "correlation", None) is not None:
                    leaves.append(tree.policy.correlation)
            return leaves

        return eqx.tree_at(head, with_role(self, "shared"), replace_fn=lambda _: "adapted")


@dataclass(frozen=True)
class ANIL(AbstractGradientMeta):
    """Almost no inner loop (Raghu et al., 2020): MAML whose inner steps change the policy's last layer only.
    The layers before it learn features that serve all tasks."""

    adapt_std: bool = True
    """Whether inner steps change a Gaussian policy's standard deviation (and correlations) too."""

    def meta_policy(self, policy: AbstractPolicy, space: ObservationSpace) -> AbstractPolicy:
        """Raises `UserError` if the policy is not a perceptron."""
        del space
        if not hasattr(getattr(policy, "network", None), "weights"):
            raise UserError(
                "ANIL adapts the last layer of a perceptron, and this policy is none; use --policy "
                "categorical-mlp or --policy gaussian-mlp."
            )
        others = eqx.filter(eqx.tree_at(lambda p: p.network, policy, None), eqx.is_inexact_array)
        if self.adapt_std and jax.tree.leaves(others) and not hasattr(policy, "raw_log_std"):
            raise UserError(
                "ANIL adapts the standard deviation too, and this policy has other parameters beside its "
                "network, but none named raw_log_std; name them so, or set --no-adapt-std."
            )
        return HeadAdapted(policy, self.adapt_std)
