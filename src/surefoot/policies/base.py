"""The contract of a policy, and of the options that build one."""

from abc import ABC, abstractmethod

import equinox as eqx
from jaxtyping import Array, Float

from surefoot.theory.distributions import AbstractDistribution
from surefoot.types import ActionSpace, Key


class AbstractPolicy(eqx.Module):
    """π(a|s): a module whose floating-point arrays are what rules improve. Adapting it returns another
    one."""

    @abstractmethod
    def __call__(self, observations: Float[Array, "*batch obs"]) -> AbstractDistribution:
        """The distribution over actions at each observation, for any batch of them."""


class PolicyOptions(ABC):
    """An immutable dataclass of options that builds a policy for an environment's spaces."""

    @abstractmethod
    def build(self, key: Key, observation_size: int, action_space: ActionSpace) -> AbstractPolicy:
        """A new policy. Raises `UserError` if it cannot serve the action space."""
