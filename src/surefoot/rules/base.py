"""The contract of a rule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from jaxtyping import Array, Float, PyTree

from surefoot.theory.objectives import AbstractObjective

Metrics = Mapping[str, Float[Array, ""]]


class AbstractRule(ABC):
    """A way to improve a policy on an objective.

    A rule is an immutable dataclass of its options. It knows nothing of environments, samplers or
    meta-learning: an adapted objective is an objective. Its methods are pure and can be jitted, vmapped and
    differentiated.
    """

    @abstractmethod
    def init(self, policy: PyTree) -> PyTree:
        """The rule's state before its first step: arrays only. A random key in it may be any; an algorithm
        makes it the run's own."""

    @abstractmethod
    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: PyTree
    ) -> tuple[PyTree, PyTree, Metrics]:
        """One improvement: `(policy, state, metrics)`.

        `metrics` holds scalars of floating-point type; `loss` is always among them, taken before the step.
        """
