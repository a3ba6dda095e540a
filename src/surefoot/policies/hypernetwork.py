"""The hypernetwork actor-critic: the memory sets the parameters of the network that acts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.encoders import Encoder, EncoderOptions
from surefoot.networks import Activation, LayerSize
from surefoot.options import at_least
from surefoot.policies.actor_critic import ActorCritic, ActorCriticPolicy
from surefoot.policies.base import AbstractRecurrentActorCritic, PolicyOptions
from surefoot.policies.gru import CellOptions, advance, unroll, unroll_episodes, zero_memory
from surefoot.policies.heads import HeadOptions
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace


class HypernetworkActorCriticPolicy(AbstractRecurrentActorCritic):
    """π(a | s_t; φ_t) and V(s_t; φ_t) with the parameters φ_t = φ + W h_t and h_t = GRU(s_t, h_{t−1}). Its
    derivatives go back through time to the beginning of the row or of the episode."""

    encoder: Encoder
    cell: eqx.nn.GRUCell
    network: ActorCriticPolicy
    """The network whose parameters are φ."""
    weights: PyTree[Float[Array, "... units"]]
    """W: for each array of φ one with a further axis, that of the units."""
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True, default=None)

    def __call__(self, observations: Observations) -> AbstractDistribution:
        return self._each(ActorCriticPolicy.__call__, *self._episodes(observations))

    def initial_memory(self) -> Float[Array, " units"]:
        return zero_memory(self.cell)

    def act(
        self, observations: Observations, memory: Float[Array, "*batch units"]
    ) -> tuple[AbstractDistribution, Float[Array, "*batch units"]]:
        inputs = self.encoder(observations)
        memory = advance(self.cell, inputs, memory)
        return self._each(ActorCriticPolicy.__call__, inputs, memory), memory

    def unroll(
        self,
        observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> AbstractDistribution:
        inputs = self.encoder(observations)
        return self._each(ActorCriticPolicy.__call__, inputs, unroll(self.cell, inputs, starts, memory))

    def values(self, observations: Observations) -> Float[Array, "*batch time"]:
        return self._each(ActorCriticPolicy.values, *self._episodes(observations))

    def outputs(self, observations: Observations, actions: Array) -> Prediction:
        del actions
        return self._each(_predict, *self._episodes(observations))

    def unroll_outputs(
        self,
        observations: Observations,
        actions: Array,
        starts: Bool[Array, "*axes time"],
        memory: Float[Array, "*axes units"],
    ) -> Prediction:
        del actions
        inputs = self.encoder(observations)
        return self._each(_predict, inputs, unroll(self.cell, inputs, starts, memory))

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
        values = ActorCriticPolicy.values
        return self._each(values, now, memories), self._each(values, following, after)

    def _episodes(self, observations: Observations) -> tuple[Array, Array]:
        inputs = self.encoder(observations)
        return inputs, unroll_episodes(self.cell, inputs)

    def _each(
        self,
        method: Callable[[ActorCriticPolicy, Array], Any],
        inputs: Float[Array, "*batch inputs"],
        memories: Float[Array, "*batch units"],
    ) -> Any:
        """A method of the network at every input, with the parameters that the memory there sets."""

        def one(inputs: Float[Array, " inputs"], memory: Float[Array, " units"]) -> Any:
            parameters, rest = eqx.partition(self.network, eqx.is_inexact_array)
            moved = jax.tree.map(lambda phi, w: phi + w @ memory, parameters, self.weights)
            return method(eqx.combine(moved, rest), inputs)

        axes = inputs.shape[:-1]
        rows = inputs.reshape(-1, inputs.shape[-1]), memories.reshape(-1, memories.shape[-1])
        return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), jax.vmap(one)(*rows))


def _predict(network: ActorCriticPolicy, inputs: Float[Array, " inputs"]) -> Prediction:
    return Prediction(network(inputs), network.values(inputs))


@dataclass(frozen=True)
class HypernetworkActorCritic(CellOptions, HeadOptions, EncoderOptions, PolicyOptions):
    """Hypernetwork actor-critic for discrete or continuous actions and partial observations: the memory of
    gated recurrent units sets all parameters of a small network from the observation to policy and value
    (Beck et al., 2022). Algorithms compute advantages from its own values, not from a baseline.

    At first the parameters do not depend on the memory, and the network is a new one with usual initial
    weights (Bias-HyperInit, there).
    """

    units: Annotated[int, at_least(1)] = 64
    """Number of recurrent units: the size of the memory."""
    hidden: Annotated[tuple[int, ...], LayerSize] = (32,)
    """Number of units in each hidden layer of the network whose parameters the memory sets; at least one
    layer."""
    activation: Activation = "tanh"
    """Activation function of that network."""

    def __post_init__(self) -> None:
        HeadOptions.__post_init__(self)
        self._base()  # for its checks

    def _base(self) -> ActorCritic:
        return ActorCritic(
            hidden=self.hidden,
            activation=self.activation,
            initial_std=self.initial_std,
            min_std=self.min_std,
            output_scale=self.output_scale,
        )

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> HypernetworkActorCriticPolicy:
        encoder_key, cell_key, network_key = jax.random.split(key, 3)
        encoder = Encoder.new(encoder_key, observation_space, self.encoder)
        inputs = encoder.size(observation_space)
        network = self._base().build(network_key, inputs, action_space)
        return HypernetworkActorCriticPolicy(
            encoder=encoder,
            cell=self.cell(cell_key, inputs, self.units),
            network=network,
            weights=jax.tree.map(
                lambda phi: jnp.zeros((*phi.shape, self.units), phi.dtype),
                eqx.filter(network, eqx.is_inexact_array),
            ),
        )
