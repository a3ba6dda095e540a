"""The contract of a family of tasks, and of one whose dynamics are pure JAX."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.envs.simulation import AbstractSimulator, JaxSimulator
from surefoot.types import ActionSpace, Key, Task


class Step(eqx.Module):
    """What one action led to."""

    state: PyTree
    observation: Float[Array, " obs"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    """True if the new state is terminal: nothing can be earned from it. A time limit is not the environment's
    to report; the sampler counts to `horizon`."""


class AbstractFamily(ABC):
    """A family of tasks with one observation and action space: an immutable dataclass of its options.

    How its episodes are stepped is its simulator's affair, which works on the host and serves any family.
    """

    horizon: int
    """An episode that has not terminated is cut short after so many steps."""
    releases_gil: ClassVar[bool] = False
    """Whether its simulators mostly work without Python's lock, so that something else can be done
    meanwhile."""

    @property
    def is_traceable(self) -> bool:
        """Whether its episodes can be part of a compiled program, by the methods of `AbstractEnv`. A family
        that wraps another one passes this on."""
        return False

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """Observations are floating-point vectors of this length."""

    @property
    @abstractmethod
    def action_space(self) -> ActionSpace:
        """What a step takes."""

    @property
    @abstractmethod
    def time_limit_ends_return(self) -> bool:
        """True where the horizon is part of the task (nothing after it counts); False where it only cuts an
        endless episode short, so that the value of what follows should be bootstrapped."""

    @abstractmethod
    def sample_tasks(self, key: Key, n: int) -> Task:
        """n tasks from the family's distribution: a pytree with a leading axis of n."""

    @abstractmethod
    def simulator(self, threads: int) -> AbstractSimulator:
        """A new simulator of its episodes, which may use so many threads."""


class AbstractEnv(AbstractFamily):
    """A family of tasks in pure JAX.

    Its methods are pure functions, written for one task, one episode and one step, and vmapped outside.
    `state` is any pytree of arrays. The task is an argument of everything: there is no other state.
    """

    @property
    def is_traceable(self) -> bool:
        return True

    def simulator(self, threads: int) -> AbstractSimulator:
        """XLA has threads of its own."""
        del threads
        return JaxSimulator(self.reset, self.step)

    @abstractmethod
    def reset(self, key: Key, task: Task) -> tuple[Any, Float[Array, " obs"]]:
        """A new episode: its state and first observation."""

    @abstractmethod
    def step(self, key: Key, state: Any, action: Array, task: Task) -> Step:
        """Takes the action as the policy drew it; clipping it is the environment's own affair."""
