"""The hypernetwork actor-critic: the memory sets the parameters of the network that acts."""

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.encoders import Encoder, EncoderOptions
from surefoot.networks import Activation, LayerSize, SomeLayer
from surefoot.options import at_least
from surefoot.policies.actor_critic import ActorCritic, ActorCriticPolicy
from surefoot.policies.base import PolicyOptions
from surefoot.policies.gru import CellOptions
from surefoot.policies.heads import HeadOptions
from surefoot.policies.recurrent_actor_critic import AbstractGatedActorCritic
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key, ObservationSpace


class HypernetworkActorCriticPolicy(AbstractGatedActorCritic):
    """π(a | s_t; φ_t) and V(s_t; φ_t) with the parameters φ_t = φ + W h_t."""

    network: ActorCriticPolicy
    """The network whose parameters are φ."""
    weights: PyTree[Float[Array, "... units"]]
    """W: for each array of φ one with a further axis, that of the units."""
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True, default=None)

    def predict(
        self, inputs: Float[Array, "*batch inputs"], memories: Float[Array, "*batch units"]
    ) -> Prediction:
        parameters, rest = eqx.partition(self.network, eqx.is_inexact_array)

        def one(inputs: Float[Array, " inputs"], memory: Float[Array, " units"]) -> Prediction:
            moved = jax.tree.map(lambda phi, w: phi + w @ memory, parameters, self.weights)
            network = eqx.combine(moved, rest)
            return Prediction(network(inputs), network.values(inputs))

        axes = inputs.shape[:-1]
        rows = inputs.reshape(-1, inputs.shape[-1]), memories.reshape(-1, memories.shape[-1])
        return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), jax.vmap(one)(*rows))


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
    hidden: Annotated[tuple[int, ...], LayerSize, SomeLayer] = (32,)
    """Number of units in each hidden layer of the network whose parameters the memory sets; at least one
    layer."""
    activation: Activation = "tanh"
    """Activation function of that network."""

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> HypernetworkActorCriticPolicy:
        encoder_key, cell_key, network_key = jax.random.split(key, 3)
        encoder = Encoder.new(encoder_key, observation_space, self.encoder)
        inputs = encoder.size(observation_space)
        options = ActorCritic(
            hidden=self.hidden,
            activation=self.activation,
            initial_std=self.initial_std,
            min_std=self.min_std,
            output_scale=self.output_scale,
        )
        network = options.build(network_key, inputs, action_space)
        return HypernetworkActorCriticPolicy(
            encoder=encoder,
            cell=self.cell(cell_key, inputs, self.units),
            network=network,
            weights=jax.tree.map(
                lambda phi: jnp.zeros((*phi.shape, self.units), phi.dtype),
                eqx.filter(network, eqx.is_inexact_array),
            ),
        )
