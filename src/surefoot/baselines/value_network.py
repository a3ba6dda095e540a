"""A value function by a neural network."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, PyTree

from surefoot.baselines.base import AbstractBaseline, Samples
from surefoot.networks import MLP, MLPOptions
from surefoot.options import UserError, check
from surefoot.theory.minibatches import shuffled
from surefoot.theory.values import proximal_term, td_targets, value_loss
from surefoot.types import Key

_Fit = tuple[MLP, PyTree]
"""The network and its optimiser's state."""


class ValueParameters(eqx.Module):
    """What a value network has learned."""

    network: MLP
    optimiser: PyTree
    key: Key
    """From which the next fit's minibatches are drawn."""


@dataclass(frozen=True)
class ValueNetwork(AbstractBaseline):
    """V(s) = f_φ(s), with f a perceptron that goes on learning from one iteration to the next.

    `monte-carlo` regresses on the returns that followed. `td` is fitted TD iteration: each of `rounds`
    regressions has the target r + γ V_i(s'), with V_i the network after the round before, and the proximal
    term λ‖φ − φᵢ‖², which keeps a round from forgetting the one before (λ = `proximal`). A perceptron does
    not see the time: where the time left matters, use `linear-features`, or an observation that holds it.
    """

    is_iterative = True

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["relu", "tanh", "elu", "silu"] = "tanh"
    lr: float = 1e-3
    """Of Adam, whose state lasts from one iteration to the next."""
    target: Literal["monte-carlo", "td"] = "monte-carlo"
    """What it is fitted to."""
    rounds: int = 1
    """Regressions in an iteration; with `monte-carlo` they all have one target."""
    epochs: int = 10
    """Passes over the samples in each round."""
    minibatches: int = 1
    """Parts of the samples, drawn anew in each epoch; 1 for the full batch."""
    proximal: float = 0.0
    """λ."""

    def __post_init__(self) -> None:
        check(all(units >= 1 for units in self.hidden), "hidden", self.hidden, "layer sizes of 1 or more")
        check(0 <= self.lr < float("inf"), "lr", self.lr, "a finite rate of 0 or more")
        for name in ("rounds", "epochs", "minibatches"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(self.proximal >= 0, "proximal", self.proximal, "0 or more")

    def init(self, key: Key, observation_size: int, horizon: int) -> ValueParameters:
        del horizon
        key, start = jax.random.split(key)
        network = MLPOptions(self.hidden, self.activation, "orthogonal").network(start, observation_size, 1)
        state = self._optimiser().init(eqx.filter(network, eqx.is_inexact_array))
        return ValueParameters(network, state, key)

    def fit(self, parameters: ValueParameters, samples: Samples) -> ValueParameters:
        samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)
        total = len(samples.returns)
        if self.minibatches > total:
            raise UserError(
                f"The value network cannot divide the {total} samples of an iteration into "
                f"{self.minibatches} minibatches; lower --estimation.baseline.minibatches."
            )
        key, fit_key = jax.random.split(parameters.key)

        def one_round(now: _Fit, key: Key) -> tuple[_Fit, None]:
            targets = self._targets(now[0], samples)
            parts = jax.vmap(lambda k: shuffled(k, total, self.minibatches, samples.valid))(
                jax.random.split(key, self.epochs)
            )
            parts = parts.reshape(-1, parts.shape[-1])
            anchor = now[0]

            def one_step(now: _Fit, part: Array) -> tuple[_Fit, None]:
                chosen = jax.tree.map(lambda x: x[part], (samples, targets))
                return self._descend(now, anchor, *chosen), None

            return jax.lax.scan(one_step, now, parts)

        start = parameters.network, parameters.optimiser
        (network, optimiser), _ = jax.lax.scan(one_round, start, jax.random.split(fit_key, self.rounds))
        return ValueParameters(network, optimiser, key)

    def values(
        self,
        parameters: ValueParameters,
        observations: Float[Array, "time obs"],
        times: Float[Array, " time"],
    ) -> Float[Array, " time"]:
        del times
        return parameters.network(observations)[..., 0]

    def _targets(self, network: MLP, samples: Samples) -> Float[Array, " samples"]:
        if self.target == "monte-carlo":
            return samples.returns
        return td_targets(samples.rewards, samples.discounts, network(samples.next_observations)[..., 0])

    def _descend(self, now: _Fit, anchor: MLP, samples: Samples, targets: Array) -> _Fit:
        network, optimiser = now

        def loss(network: MLP) -> Array:
            values = network(samples.observations)[..., 0]
            return value_loss(values, targets, samples.valid) + self.proximal * proximal_term(network, anchor)

        gradient = jax.grad(loss)(network)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
            updates, optimiser = self._optimiser().update(gradient, optimiser)
        return eqx.apply_updates(network, updates), optimiser

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.lr))
