"""The contract of a family of tasks."""

from abc import ABC, abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.types import ActionSpace, Key, Task


class Step(eqx.Module):
    """What one action led to."""

    state: PyTree
    observation: Float[Array, " obs"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    """True if the new state is terminal: nothing can be earned from it. A time limit is not the environment's
    to report; the sampler counts to `horizon`."""


class AbstractEnv(ABC):
    """A family of tasks with one observation and action space, in pure JAX.

    An immutable dataclass of its options. Its methods are pure functions, written for one task, one episode
    and one step, and vmapped outside. `state` is any pytree of arrays. The task is an argument of everything:
    there is no other state.
    """

    horizon: int
    """An episode that has not terminated is cut short after so many steps."""

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """Observations are floating-point vectors of this length."""

    @property
    @abstractmethod
    def action_space(self) -> ActionSpace:
        """What `step` takes."""

    @property
    @abstractmethod
    def time_limit_ends_return(self) -> bool:
        """True where the horizon is part of the task (nothing after it counts); False where it only cuts an
        endless episode short, so that the value of what follows should be bootstrapped."""

    @abstractmethod
    def sample_tasks(self, key: Key, n: int) -> Task:
        """n tasks from the family's distribution: a pytree with a leading axis of n."""

    @abstractmethod
    def reset(self, key: Key, task: Task) -> tuple[Any, Float[Array, " obs"]]:
        """A new episode: its state and first observation."""

    @abstractmethod
    def step(self, key: Key, state: Any, action: Array, task: Task) -> Step:
        """Takes the action as the policy drew it; clipping it is the environment's own affair."""
