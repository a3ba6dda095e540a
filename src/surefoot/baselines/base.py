"""The base class of baselines."""

from abc import ABC, abstractmethod
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.types import Key, Observations, ObservationSpace


class Samples(eqx.Module):
    """The data that a baseline is fitted to. Padding is zero and not `valid`."""

    observations: Observations
    times: Float[Array, "episode time"]
    """Steps since the episode began."""
    returns: Float[Array, "episode time"]
    """The return from each step on, or another target."""
    rewards: Float[Array, "episode time"]
    discounts: Float[Array, "episode time"]
    """γ_t; zero where an episode terminates."""
    next_observations: Observations
    valid: Bool[Array, "episode time"]


class AbstractBaseline(ABC):
    """V(s_t, t): an estimate of the return from each step, which is subtracted from the return.

    A baseline is an immutable dataclass of its options. Its learned parameters are a pytree of arrays, which
    `fit` returns. It depends on the time as well as on the observation, as the return of a finite episode
    does.
    """

    is_iterative: ClassVar[bool] = False
    """Whether a fit takes many gradient steps, so that a thread of its own is worthwhile."""

    @abstractmethod
    def init(self, key: Key, observation_space: ObservationSpace, horizon: int) -> PyTree:
        """The initial parameters, for episodes of at most `horizon` steps; 0 for no time limit."""

    @abstractmethod
    def fit(self, parameters: PyTree, samples: Samples) -> PyTree:
        """Parameters fitted to the valid steps of `samples`. An iterative baseline starts from `parameters`;
        one in closed form may ignore them."""

    @abstractmethod
    def values(
        self, parameters: PyTree, observations: Observations, times: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        """V at one trajectory's observations; `times` are steps since the episode began."""

    def memory_to_fit(self, observation_space: ObservationSpace, steps: int) -> int:
        """A lower bound of the bytes that `fit` needs for this many steps of one task, beside the samples;
        0 if that is little. Training is refused where the machine has less."""
        del observation_space, steps
        return 0
