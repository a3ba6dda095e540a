"""The neural-network value function."""

from dataclasses import dataclass
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from surefoot.baselines.base import AbstractBaseline, Samples
from surefoot.encoders import EncoderOptions
from surefoot.networks import MLP, Activation, LayerSize, MLPOptions
from surefoot.options import Fraction, NonNegative, UserError, at_least
from surefoot.theory.minibatches import shuffled
from surefoot.theory.values import lambda_returns, proximal_term, td_targets, value_loss
from surefoot.types import Key, Observations, ObservationSpace

_Carry = tuple[MLP, PyTree]
"""The network and its optimiser's state."""


class ValueParameters(eqx.Module):
    """The learned state of a value network."""

    network: MLP
    optimiser: PyTree
    key: Key
    """The key of the next fit's minibatches."""


@dataclass(frozen=True)
class ValueNetwork(EncoderOptions, AbstractBaseline):
    """V(s) = f_φ(s), with an MLP f whose training continues from one iteration to the next.

    The target `monte-carlo` is the return. `td` is fitted TD iteration: each of `rounds` regressions has the
    target r + γ V_i(s'), with V_i the network after the previous round. `lambda-return` lies between the two.
    Each loss has the proximal term κ‖φ − φ_i‖², with φ_i the parameters after the previous round and
    κ = `proximal`. The network does not see the time: where the time left matters, use `linear-features`, or
    observations that hold it.
    """

    is_iterative = True

    hidden: Annotated[tuple[int, ...], LayerSize] = (64, 64)
    """Number of units in each hidden layer."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers."""
    lr: Annotated[float, NonNegative] = 1e-3
    """Adam learning rate; Adam's state is kept from one iteration to the next."""
    target: Literal["monte-carlo", "td", "lambda-return"] = "monte-carlo"
    """Target of the regression."""
    target_lambda: Annotated[float, Fraction] = 0.95
    """λ of the target `lambda-return`."""
    rounds: Annotated[int, at_least(1)] = 1
    """Number of regressions in an iteration; with `monte-carlo` they all have the same target."""
    epochs: Annotated[int, at_least(1)] = 10
    """Number of passes over the samples in each round."""
    minibatches: Annotated[int, at_least(1)] = 1
    """Number of minibatches in an epoch, drawn anew each time; 1 for the full batch."""
    proximal: Annotated[float, NonNegative] = 0.0
    """Weight κ of the proximal term."""

    def init(self, key: Key, observation_space: ObservationSpace, horizon: int) -> ValueParameters:
        del horizon
        key, start = jax.random.split(key)
        options = MLPOptions(self.hidden, self.activation, "orthogonal", encoder=self.encoder)
        network = options.network(start, observation_space, 1)
        state = self._optimiser().init(eqx.filter(network, eqx.is_inexact_array))
        return ValueParameters(network, state, key)

    def fit(self, parameters: ValueParameters, samples: Samples) -> ValueParameters:
        """Raises `UserError` if there are more minibatches than samples."""
        episodes = samples
        samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)
        total = len(samples.returns)
        if self.minibatches > total:
            raise UserError(
                f"The value network cannot divide the {total} samples of an iteration into "
                f"{self.minibatches} minibatches; lower --estimation.baseline.minibatches."
            )
        key, fit_key = jax.random.split(parameters.key)

        def one_round(carry: _Carry, key: Key) -> tuple[_Carry, None]:
            anchor, _ = carry
            targets = self._targets(anchor, episodes).reshape(-1)
            draw = jax.vmap(lambda k: shuffled(k, total, self.minibatches, samples.valid))
            parts = draw(jax.random.split(key, self.epochs))

            def one_step(carry: _Carry, part: Array) -> tuple[_Carry, None]:
                chosen = jax.tree.map(lambda x: x[part], (samples, targets))
                return self._descend(carry, anchor, *chosen), None

            return jax.lax.scan(one_step, carry, parts.reshape(-1, parts.shape[-1]))

        start = parameters.network, parameters.optimiser
        (network, optimiser), _ = jax.lax.scan(one_round, start, jax.random.split(fit_key, self.rounds))
        return ValueParameters(network, optimiser, key)

    def values(
        self,
        parameters: ValueParameters,
        observations: Observations,
        times: Float[Array, " time"],
    ) -> Float[Array, " time"]:
        del times
        return parameters.network(observations)[..., 0]

    def _targets(self, network: MLP, samples: Samples) -> Float[Array, "episode time"]:
        if self.target == "monte-carlo":
            return samples.returns
        next_values = network(samples.next_observations)[..., 0]
        if self.target == "td":
            return td_targets(samples.rewards, samples.discounts, next_values)
        # Nothing goes on after the last step of an array, nor where another episode follows.
        goes_on = samples.valid[:, 1:] & (samples.times[:, 1:] == samples.times[:, :-1] + 1)
        decay = self.target_lambda * jnp.pad(goes_on, ((0, 0), (0, 1))).astype(next_values.dtype)
        return jax.vmap(lambda_returns)(samples.rewards, samples.discounts, next_values, decay)

    def _descend(self, carry: _Carry, anchor: MLP, samples: Samples, targets: Array) -> _Carry:
        network, optimiser = carry

        def loss(network: MLP) -> Array:
            values = network(samples.observations)[..., 0]
            return value_loss(values, targets, samples.valid) + self.proximal * proximal_term(network, anchor)

        gradient = jax.grad(loss)(network)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
            updates, optimiser = self._optimiser().update(gradient, optimiser)
        return eqx.apply_updates(network, updates), optimiser

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.lr))
