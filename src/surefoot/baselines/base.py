"""The contract of a baseline."""

from abc import ABC, abstractmethod

from jaxtyping import Array, Bool, Float, PyTree


class AbstractBaseline(ABC):
    """V(s_t, t): an estimate of the return from each step, to be subtracted from it.

    A baseline is an immutable dataclass of its options; what it learns is a pytree that `fit` returns. It
    sees time as well as the observation, since the return of a finite episode depends on both.
    """

    @abstractmethod
    def init(self, observation_size: int) -> PyTree:
        """The parameters before anything is known."""

    @abstractmethod
    def fit(
        self,
        observations: Float[Array, "episode time obs"],
        returns: Float[Array, "episode time"],
        valid: Bool[Array, "episode time"],
    ) -> PyTree:
        """Parameters fitted to the returns-to-go of the valid steps."""

    @abstractmethod
    def values(
        self, parameters: PyTree, observations: Float[Array, "time obs"], times: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        """V at one trajectory's observations; `times` counts its steps from 0."""
