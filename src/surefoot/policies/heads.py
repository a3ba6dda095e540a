"""The last layer of a policy that is not an MLP only: from features to a distribution over actions."""

from dataclasses import dataclass
from typing import Annotated

from surefoot.options import NonNegative
from surefoot.policies.base import AbstractPolicy
from surefoot.policies.categorical import CategoricalMLP
from surefoot.policies.gaussian import GaussianMLP, StandardDeviationOptions
from surefoot.types import ActionSpace, Continuous, Key


@dataclass(frozen=True, kw_only=True)
class HeadOptions(StandardDeviationOptions):
    """Options of a linear last layer, for discrete or continuous actions."""

    output_scale: Annotated[float, NonNegative] = 0.01
    """Factor of the initial weights from features to actions. A policy with small ones starts near a uniform,
    or centred, distribution."""

    def head(self, key: Key, features: int, action_space: ActionSpace) -> AbstractPolicy:
        """A policy that observes features and is linear in them."""
        linear = {"hidden": (), "output_scale": self.output_scale, "initialiser": "orthogonal"}
        if not isinstance(action_space, Continuous):
            return CategoricalMLP(**linear).build(key, features, action_space)
        gaussian = GaussianMLP(**linear, initial_std=self.initial_std, min_std=self.min_std)
        return gaussian.build(key, features, action_space)
