"""Categorical policies, for discrete actions."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from surefoot.networks import MLP, MLPOptions
from surefoot.options import UserError
from surefoot.policies.base import AbstractPolicy, PolicyOptions
from surefoot.theory.distributions import Categorical
from surefoot.types import ActionSpace, Discrete, Key


class CategoricalMLPPolicy(AbstractPolicy):
    """π(a|s) = softmax(f(s)), with the logits f from a network."""

    network: MLP

    def __call__(self, observations: Float[Array, "*batch obs"]) -> Categorical:
        return Categorical(self.network(observations))


@dataclass(frozen=True)
class CategoricalMLP(MLPOptions, PolicyOptions):
    """Policy for discrete actions: π(a|s) = softmax(f(s)), with an MLP f."""

    def build(self, key: Key, observation_size: int, action_space: ActionSpace) -> CategoricalMLPPolicy:
        if not isinstance(action_space, Discrete):
            raise UserError(
                "A categorical-mlp policy samples discrete actions, and this environment's are continuous; "
                "use --policy gaussian-mlp."
            )
        return CategoricalMLPPolicy(self.network(key, observation_size, action_space.n))
