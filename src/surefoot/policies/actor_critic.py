"""An actor-critic: one network that acts, predicts its return and, if asked, something of the world."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.networks import ACTIVATIONS, MLP, MLPOptions
from surefoot.options import check
from surefoot.policies.auxiliary import AbstractAuxiliary, NoAuxiliary
from surefoot.policies.base import AbstractActorCritic, AbstractPolicy, PolicyOptions
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Discrete, Key


class ActorCriticPolicy(AbstractActorCritic):
    """Features φ(s) from a shared torso, and maps from them: to actions, to V(s), and with the action to an
    auxiliary prediction."""

    torso: MLP
    actor: AbstractPolicy
    critic: MLP
    predictor: MLP | None
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True)
    actions: int | None = eqx.field(static=True)
    """How many discrete actions there are; None for continuous ones."""

    def __call__(self, observations: Float[Array, "*batch obs"]) -> AbstractDistribution:
        return self.actor(self._features(observations))

    def values(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch"]:
        return self.critic(self._features(observations))[..., 0]

    def outputs(self, observations: Float[Array, "*batch obs"], actions: Array) -> Prediction:
        features = self._features(observations)
        prediction = Prediction(self.actor(features), self.critic(features)[..., 0])
        if self.predictor is None:
            return prediction
        if self.actions is not None:
            actions = jax.nn.one_hot(actions, self.actions, dtype=features.dtype)
        auxiliary = self.predictor(jnp.concatenate([features, actions], axis=-1))
        return Prediction(prediction.distribution, prediction.values, auxiliary)

    def _features(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch features"]:
        return ACTIVATIONS[self.torso.activation](self.torso(observations))


@dataclass(frozen=True)
class ActorCritic(HeadOptions, PolicyOptions):
    """For either kind of action: policy and value function on one torso. Algorithms take the advantages from
    its own values, not from a baseline."""

    hidden: tuple[int, ...] = (64, 64)
    """Units of each layer of the torso."""
    activation: Literal["relu", "tanh", "elu", "silu"] = "tanh"
    auxiliary: AbstractAuxiliary = NoAuxiliary()
    """What it learns to predict beside the return, to form its features."""

    def __post_init__(self) -> None:
        HeadOptions.__post_init__(self)
        sound = len(self.hidden) > 0 and all(units >= 1 for units in self.hidden)
        check(sound, "hidden", self.hidden, "one layer or more, of 1 unit or more")

    def build(self, key: Key, observation_size: int, action_space: ActionSpace) -> ActorCriticPolicy:
        torso_key, actor_key, critic_key, predictor_key = jax.random.split(key, 4)
        *hidden, features = self.hidden
        torso = MLPOptions(tuple(hidden), self.activation, "orthogonal", 2**0.5)
        linear = MLPOptions((), self.activation, "orthogonal")
        discrete = isinstance(action_space, Discrete)
        inputs = features + (action_space.n if isinstance(action_space, Discrete) else action_space.size)
        outputs = self.auxiliary.size(observation_size)
        return ActorCriticPolicy(
            torso=torso.network(torso_key, observation_size, features),
            actor=self.head(actor_key, features, action_space),
            critic=linear.network(critic_key, features, 1),
            predictor=linear.network(predictor_key, inputs, outputs) if outputs else None,
            auxiliary=self.auxiliary.loss if outputs else None,
            actions=action_space.n if discrete else None,
        )
