"""The actor-critic policy: policy, value function and auxiliary prediction with one torso."""

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.encoders import EncoderOptions
from surefoot.networks import ACTIVATIONS, MLP, Activation, LayerSize, MLPOptions, SomeLayer
from surefoot.policies.auxiliary import AbstractAuxiliary, NoAuxiliary
from surefoot.policies.base import AbstractActorCritic, AbstractPolicy, PolicyOptions
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace


class ActorCriticPolicy(AbstractActorCritic):
    """π(a|φ(s)), V(φ(s)) and an auxiliary prediction from φ(s) and a, with features φ of a shared torso."""

    torso: MLP
    actor: AbstractPolicy
    critic: MLP
    predictor: MLP | None
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True)
    action_space: ActionSpace = eqx.field(static=True)

    def __call__(self, observations: Observations) -> AbstractDistribution:
        return self.actor(self._features(observations))

    def values(self, observations: Observations) -> Float[Array, "*batch"]:
        return self.critic(self._features(observations))[..., 0]

    def outputs(self, observations: Observations, actions: Array) -> Prediction:
        features = self._features(observations)
        distribution, values = self.actor(features), self.critic(features)[..., 0]
        if self.predictor is None:
            return Prediction(distribution, values)
        encoded = self.action_space.encode(actions).astype(features.dtype)
        auxiliary = self.predictor(jnp.concatenate([features, encoded], axis=-1))
        return Prediction(distribution, values, auxiliary)

    def _features(self, observations: Observations) -> Float[Array, "*batch features"]:
        return ACTIVATIONS[self.torso.activation](self.torso(observations))


@dataclass(frozen=True)
class ActorCritic(HeadOptions, EncoderOptions, PolicyOptions):
    """Actor-critic for discrete or continuous actions: policy and value function with one torso. Algorithms
    compute advantages from its own values, not from a baseline."""

    hidden: Annotated[tuple[int, ...], LayerSize, SomeLayer] = (64, 64)
    """Number of units in each layer of the torso; at least one layer."""
    activation: Activation = "tanh"
    """Activation function of the torso."""
    auxiliary: AbstractAuxiliary = NoAuxiliary()
    """Auxiliary prediction, whose loss shapes the torso's features."""

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> ActorCriticPolicy:
        torso_key, actor_key, critic_key, predictor_key = jax.random.split(key, 4)
        *hidden, features = self.hidden
        torso = MLPOptions(tuple(hidden), self.activation, "orthogonal", 2**0.5, encoder=self.encoder)
        linear = MLPOptions((), self.activation, "orthogonal")
        inputs = features + action_space.features
        outputs = self.auxiliary.size(observation_space)
        return ActorCriticPolicy(
            torso=torso.network(torso_key, observation_space, features),
            actor=self.head(actor_key, features, action_space),
            critic=linear.network(critic_key, features, 1),
            predictor=linear.network(predictor_key, inputs, outputs) if outputs else None,
            auxiliary=self.auxiliary.loss if outputs else None,
            action_space=action_space,
        )
