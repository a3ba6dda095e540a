"""The recurrent actor-critic: policy and value function with one memory."""

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from surefoot.encoders import Encoder, EncoderOptions
from surefoot.networks import MLP, MLPOptions
from surefoot.options import at_least
from surefoot.policies.base import AbstractPolicy, AbstractRecurrentActorCritic, PolicyOptions
from surefoot.policies.gru import CellOptions, advance, unroll, unroll_episodes, zero_memory
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace


class RecurrentActorCriticPolicy(AbstractRecurrentActorCritic):
    """π(a | h_t) and V(h_t) with h_t = GRU(s_t, h_{t−1}). Its derivatives go back through time to the
    beginning of the row or of the episode."""

    encoder: Encoder
    cell: eqx.nn.GRUCell
    actor: AbstractPolicy
    critic: MLP
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True, default=None)

    def __call__(self, observations: Observations) -> AbstractDistribution:
        return self.actor(self._features(observations))

    def initial_memory(self) -> Float[Array, " units"]:
        return zero_memory(self.cell)

    def act(
        self, observations: Observations, memory: Float[Array, "*batch units"]
    ) -> tuple[AbstractDistribution, Float[Array, "*batch units"]]:
        memory = advance(self.cell, self.encoder(observations), memory)
        return self.actor(memory), memory

    def unroll(
        self,
        observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> AbstractDistribution:
        return self.actor(unroll(self.cell, self.encoder(observations), starts, memory))

    def values(self, observations: Observations) -> Float[Array, "*batch time"]:
        return self.critic(self._features(observations))[..., 0]

    def outputs(self, observations: Observations, actions: Array) -> Prediction:
        del actions
        return self._predicted(self._features(observations))

    def unroll_outputs(
        self,
        observations: Observations,
        actions: Array,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> Prediction:
        del actions
        return self._predicted(unroll(self.cell, self.encoder(observations), starts, memory))

    def unroll_values(
        self,
        observations: Observations,
        next_observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> tuple[Float[Array, "*axes time"], Float[Array, "*axes time"]]:
        features = unroll(self.cell, self.encoder(observations), starts, memory)
        following = advance(self.cell, self.encoder(next_observations), features)
        return self.critic(features)[..., 0], self.critic(following)[..., 0]

    def _features(self, observations: Observations) -> Float[Array, "*batch time units"]:
        return unroll_episodes(self.cell, self.encoder(observations))

    def _predicted(self, features: Float[Array, "*batch units"]) -> Prediction:
        return Prediction(self.actor(features), self.critic(features)[..., 0])


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
