"""The last layer of a network that is not a perceptron alone: from features to a distribution over
actions."""

from dataclasses import dataclass
from math import inf

from surefoot.options import check
from surefoot.policies.base import AbstractPolicy
from surefoot.policies.categorical import CategoricalMLP
from surefoot.policies.gaussian import GaussianMLP
from surefoot.types import ActionSpace, Discrete, Key


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Of either kind of action space."""

    output_scale: float = 0.01
    """Multiplies the initial weights from features to actions: small values start near a uniform, or centred,
    policy."""
    initial_std: float = 1.0
    """Continuous actions: the standard deviation it starts with."""
    min_std: float = 1e-6
    """Continuous actions: the standard deviation stays above this."""

    def __post_init__(self) -> None:
        check(0 <= self.output_scale < inf, "output_scale", self.output_scale, "0 or more, and finite")
        check(self.min_std > 0, "min_std", self.min_std, "above 0")
        wanted = "above min-std, and finite"
        check(self.min_std < self.initial_std < inf, "initial_std", self.initial_std, wanted)

    def head(self, key: Key, features: int, action_space: ActionSpace) -> AbstractPolicy:
        """A linear map from features to the parameters of a distribution: a policy that observes features."""
        linear = {"hidden": (), "output_scale": self.output_scale, "initialiser": "orthogonal"}
        if isinstance(action_space, Discrete):
            return CategoricalMLP(**linear).build(key, features, action_space)
        gaussian = GaussianMLP(**linear, initial_std=self.initial_std, min_std=self.min_std)
        return gaussian.build(key, features, action_space)
