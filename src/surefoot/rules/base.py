"""The contract of a rule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Array, Bool, Float, PyTree

from surefoot.theory.objectives import AbstractObjective
from surefoot.types import Batch

Metrics = Mapping[str, Float[Array, ""]]


class AbstractRule(ABC):
    """A way to improve a policy on an objective.

    A rule is an immutable dataclass of its options. It knows nothing of environments, samplers or
    meta-learning: an adapted objective is an objective. Its methods are pure and can be jitted, vmapped and
    differentiated. A rule that wraps another one passes on its properties.
    """

    requires_surrogate: ClassVar[bool] = True
    """Whether a step asks for more of the loss than its gradient at the policy that drew the data: its value,
    or a gradient at another policy. The pseudo-loss `reinforce` has neither. A rule that takes one step along
    that gradient says False; a rule that says nothing is not given the pseudo-loss."""
    takes_several_steps: ClassVar[bool] = False
    """Whether one call of `step` takes several gradient steps on its batch."""
    measures_by_kl: ClassVar[bool] = False
    """Whether a step is measured by the KL of the actions, as natural gradients are. The KL does not see the
    value function of an actor-critic, whose part of the step would have no bound."""

    @abstractmethod
    def init(self, policy: PyTree) -> PyTree:
        """The rule's state before its first step: arrays only. A random key in it may be any; an algorithm
        makes that of an outer rule the run's own, and an inner rule begins each adaptation with it."""

    @abstractmethod
    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: PyTree
    ) -> tuple[PyTree, PyTree, Metrics]:
        """One improvement: `(policy, state, metrics)`.

        `metrics` holds scalars of floating-point type; `loss` is always among them, taken before the step.
        """


def valid_of_steps(batch: PyTree) -> Bool[Array, " step"] | None:
    """Which steps of a batch `[step ...]` of one task are no padding; None of any other batch."""
    return batch.valid if isinstance(batch, Batch) and batch.valid.ndim == 1 else None
