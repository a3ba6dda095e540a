"""The recurrent actor-critic: policy and value function with one memory."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from surefoot.encoders import Encoder, EncoderOptions
from surefoot.networks import MLP, MLPOptions
from surefoot.options import at_least
from surefoot.policies.base import AbstractPolicy, AbstractRecurrentActorCritic, PolicyOptions
from surefoot.policies.gru import AbstractGatedPolicy, CellOptions, advance, unroll, unroll_episodes
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace


class AbstractGatedActorCritic(AbstractGatedPolicy, AbstractRecurrentActorCritic):
    """An actor-critic whose memory is that of gated recurrent units."""

    @abstractmethod
    def predict(
        self, inputs: Float[Array, "*batch inputs"], memories: Float[Array, "*batch units"]
    ) -> Prediction:
        """Distribution and value at encoded observations s_t, with the memory h_t there."""

    def distribution(
        self, inputs: Float[Array, "*batch inputs"], memories: Float[Array, "*batch units"]
    ) -> AbstractDistribution:
        return self.predict(inputs, memories).distribution

    def values(self, observations: Observations) -> Float[Array, "*batch time"]:
        return self._predict_episodes(observations).values

    def outputs(self, observations: Observations, actions: Array) -> Prediction:
        del actions
        return self._predict_episodes(observations)

    def unroll_outputs(
        self,
        observations: Observations,
        actions: Array,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> Prediction:
        del actions
        inputs = self.encoder(observations)
        return self.predict(inputs, unroll(self.cell, inputs, starts, memory))

    def unroll_values(
        self,
        observations: Observations,
        next_observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> tuple[Float[Array, "*axes time"], Float[Array, "*axes time"]]:
        now, following = self.encoder(observations), self.encoder(next_observations)
        memories = unroll(self.cell, now, starts, memory)
        after = advance(self.cell, following, memories)
        return self.predict(now, memories).values, self.predict(following, after).values

    def _predict_episodes(self, observations: Observations) -> Prediction:
        inputs = self.encoder(observations)
        return self.predict(inputs, unroll_episodes(self.cell, inputs))


class RecurrentActorCriticPolicy(AbstractGatedActorCritic):
    """π(a | h_t) and V(h_t)."""

    actor: AbstractPolicy
    critic: MLP
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True, default=None)

    def predict(
        self, inputs: Float[Array, "*batch inputs"], memories: Float[Array, "*batch units"]
    ) -> Prediction:
        del inputs
        return Prediction(self.actor(memories), self.critic(memories)[..., 0])


@dataclass(frozen=True)
class RecurrentActorCritic(CellOptions, HeadOptions, EncoderOptions, PolicyOptions):
    """Recurrent actor-critic for discrete or continuous actions and partial observations: gated recurrent
    units, and linear maps from their memory to policy and value. Algorithms compute advantages from its own
    values, not from a baseline."""

    units: Annotated[int, at_least(1)] = 64
    """Number of recurrent units: the size of the memory."""

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> RecurrentActorCriticPolicy:
        encoder_key, cell_key, actor_key, critic_key = jax.random.split(key, 4)
        encoder = Encoder.new(encoder_key, observation_space, self.encoder)
        return RecurrentActorCriticPolicy(
            encoder=encoder,
            cell=self.cell(cell_key, encoder.size(observation_space), self.units),
            actor=self.head(actor_key, self.units, action_space),
            critic=MLPOptions((), initialiser="orthogonal").network(critic_key, self.units, 1),
        )
