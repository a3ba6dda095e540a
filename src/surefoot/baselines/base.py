"""The contract of a baseline."""

from abc import ABC, abstractmethod
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.types import Key


class Samples(eqx.Module):
    """What a baseline learns from. Padding is zero and not `valid`."""

    observations: Float[Array, "episode time obs"]
    times: Float[Array, "episode time"]
    """Steps since the episode began."""
    returns: Float[Array, "episode time"]
    """The return that follows each step, or whatever the baseline is to be subtracted from."""
    rewards: Float[Array, "episode time"]
    discounts: Float[Array, "episode time"]
    """γ_t, zero where an episode ends for good."""
    next_observations: Float[Array, "episode time obs"]
    valid: Bool[Array, "episode time"]


class AbstractBaseline(ABC):
    """V(s_t, t): an estimate of the return from each step, to be subtracted from it.

    A baseline is an immutable dataclass of its options; what it learns is a pytree of arrays that `fit`
    returns. It sees time as well as the observation, since the return of a finite episode depends on both.
    """

    is_iterative: ClassVar[bool] = False
    """Whether a fit takes many steps, and so long that it is worth a thread of its own."""

    @abstractmethod
    def init(self, key: Key, observation_size: int, horizon: int) -> PyTree:
        """The parameters before anything is known, for episodes of at most `horizon` steps."""

    @abstractmethod
    def fit(self, parameters: PyTree, samples: Samples) -> PyTree:
        """Parameters fitted to the valid steps of `samples`. One that learns by degrees goes on from
        `parameters`, what it learned before; one that is solved for may ignore them."""

    @abstractmethod
    def values(
        self, parameters: PyTree, observations: Float[Array, "time obs"], times: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        """V at one trajectory's observations; `times` counts steps since the episode began."""
