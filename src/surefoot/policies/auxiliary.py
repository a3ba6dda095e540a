"""Auxiliary losses: predictions that an actor-critic learns to shape its features.

Jaderberg et al. (2017) show that such losses make a shared torso useful before there is any reward.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.options import NonNegative, Options, UserError
from surefoot.theory.averages import valid_mean
from surefoot.types import Batch, ObservationSpace, Transitions, as_space, is_image


class AbstractAuxiliary(ABC):
    """An auxiliary prediction: the length of its vector, and its loss. An immutable dataclass of its
    options."""

    @abstractmethod
    def size(self, observation_space: ObservationSpace) -> int:
        """The length of the predicted vector; zero for none."""

    @abstractmethod
    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        """The loss that is added to the policy's, its weight included."""


@dataclass(frozen=True)
class NoAuxiliary(AbstractAuxiliary):
    """No auxiliary prediction."""

    def size(self, observation_space: ObservationSpace) -> int:
        del observation_space
        return 0

    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        del batch
        return jnp.zeros((), prediction.dtype)


@dataclass(frozen=True)
class PredictReward(Options, AbstractAuxiliary):
    """Prediction of the reward, with the loss ½ (r̂(s, a) − r)²."""

    weight: Annotated[float, NonNegative] = 0.1
    """Weight of the loss beside the policy's."""

    def size(self, observation_space: ObservationSpace) -> int:
        del observation_space
        return 1

    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        error = (prediction[..., 0] - _transitions(batch).rewards) ** 2
        return 0.5 * self.weight * valid_mean(error, batch.valid)


@dataclass(frozen=True)
class PredictNextObservation(Options, AbstractAuxiliary):
    """Prediction of the next observation, with the loss ½ ‖ŝ'(s, a) − s'‖², averaged over its elements. What
    a step that ends the return leads to is not predicted: streams do not keep it."""

    weight: Annotated[float, NonNegative] = 0.1
    """Weight of the loss beside the policy's."""

    def size(self, observation_space: ObservationSpace) -> int:
        """Raises `UserError` if observations are more than one vector."""
        parts = jax.tree.leaves(as_space(observation_space))
        if len(parts) != 1 or is_image(parts[0]):
            raise UserError(
                f"The next observation is predicted where it is one vector, and here it is {parts}; use "
                "--policy.auxiliary predict-reward or no-auxiliary."
            )
        return parts[0].shape[0]

    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        transitions = _transitions(batch)
        error = jnp.mean((prediction - transitions.next_observations) ** 2, axis=-1)
        return 0.5 * self.weight * valid_mean(error, batch.valid & (transitions.discounts > 0))


def _transitions(batch: Batch) -> Transitions:
    assert batch.transitions is not None
    return batch.transitions
