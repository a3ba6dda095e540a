"""Auxiliary losses: what a network may learn to predict so that its features tell of the world.

Jaderberg et al. (2017) show that such losses make a shared torso useful before there is any reward.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf

import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.options import check
from surefoot.theory.averages import valid_mean
from surefoot.types import Batch, Transitions


class AbstractAuxiliary(ABC):
    """An immutable dataclass of its options: how long the prediction is, and how it is judged."""

    @abstractmethod
    def size(self, observation_size: int) -> int:
        """The length of the predicted vector; zero for none."""

    @abstractmethod
    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        """To be minimised beside the policy's loss, its weight included."""


@dataclass(frozen=True)
class NoAuxiliary(AbstractAuxiliary):
    """Nothing beside policy and value."""

    def size(self, observation_size: int) -> int:
        del observation_size
        return 0

    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        del batch
        return jnp.zeros((), prediction.dtype)


@dataclass(frozen=True)
class PredictReward(AbstractAuxiliary):
    """½ (r̂(s, a) − r)²."""

    weight: float = 0.1

    def __post_init__(self) -> None:
        check(0 <= self.weight < inf, "weight", self.weight, "0 or more, and finite")

    def size(self, observation_size: int) -> int:
        del observation_size
        return 1

    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        error = (prediction[..., 0] - _transitions(batch).rewards) ** 2
        return 0.5 * self.weight * valid_mean(error, batch.valid)


@dataclass(frozen=True)
class PredictNextObservation(AbstractAuxiliary):
    """½ ‖ŝ'(s, a) − s'‖², a mean over the observation's elements."""

    weight: float = 0.1

    def __post_init__(self) -> None:
        check(0 <= self.weight < inf, "weight", self.weight, "0 or more, and finite")

    def size(self, observation_size: int) -> int:
        return observation_size

    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        error = jnp.mean((prediction - _transitions(batch).next_observations) ** 2, axis=-1)
        return 0.5 * self.weight * valid_mean(error, batch.valid)


def _transitions(batch: Batch) -> Transitions:
    assert batch.transitions is not None
    return batch.transitions
