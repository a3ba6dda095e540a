"""Base classes: a family of tasks, and one whose dynamics are pure JAX."""

from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.envs.simulation import AbstractSimulator, JaxSimulator
from surefoot.options import UserError
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace, Task


class Step(eqx.Module):
    """The result of one action."""

    state: PyTree
    observation: Observations
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    """Whether the new state is terminal: its value is zero. Time limits are not reported here; the sampler
    counts to `horizon`."""


class AbstractFamily(ABC):
    """A family of tasks with the same observation and action space: an immutable dataclass of its options.

    Its simulator steps its episodes, from the host.
    """

    horizon: int
    """The number of steps after which an episode that has not terminated is truncated; 0 for no time limit.
    Then it can be sampled by streams alone, and a field `horizon` or `time_limit` lets evaluation set one."""
    releases_gil: ClassVar[bool] = False
    """Whether its simulators mostly work without Python's global lock (GIL), so that other threads can run
    meanwhile."""
    is_traceable: ClassVar[bool] = False
    """Whether its episodes can be part of a compiled program, by the methods of `AbstractEnv`. A family that
    wraps another one passes this on."""
    has_goals_on_a_plane: ClassVar[bool] = False
    """Whether observations are positions on a plane, `[2]`, and tasks goals on it: pictures show the paths. A
    family that wraps another one passes this on."""
    trial_episodes: ClassVar[int | None] = None
    """The number of episodes of one task that are taken for one episode, with observations as `Trial` has
    them; None if the family has no trials. A family that wraps another one passes this on."""
    time_limit_ends_return: ClassVar[bool] = property(abstractmethod(lambda _: False))  # pyright: ignore[reportAssignmentType]
    """Whether the horizon is part of the task, so that nothing after it counts. Otherwise it truncates the
    episode, and the value of what follows should be bootstrapped."""

    @property
    def clipping_bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The least and the greatest values of every component of an action, in the policy's own units, to
        which the environment clips it; None if it clips none. A family that wraps another one passes this
        on."""
        return None

    @property
    @abstractmethod
    def observation_space(self) -> ObservationSpace:
        """The form of an observation: `vector(size)`, `image(height, width, channels)`, or a pytree of them,
        such as a dictionary."""

    @property
    @abstractmethod
    def action_space(self) -> ActionSpace:
        """The space of the actions that a step takes."""

    @abstractmethod
    def sample_tasks(self, key: Key, n: int) -> Task:
        """n tasks from the family's distribution: a pytree of arrays with a leading axis of n."""

    @abstractmethod
    def simulator(self, threads: int) -> AbstractSimulator:
        """A new simulator of its episodes, which uses at most `threads` threads."""


def time_limit_field(env: AbstractFamily) -> str | None:
    """The name of the option that sets a family's time limit; None if it has none."""
    names = [field.name for field in fields(env)] if is_dataclass(env) else []
    return next((name for name in ("time_limit", "horizon") if name in names), None)


def with_time_limit(env: AbstractFamily, steps: int) -> AbstractFamily:
    """The family with this time limit if it has none of its own. Raises `UserError` if none can be set."""
    if env.horizon:
        return env
    field = time_limit_field(env)
    if field is None:
        raise UserError(
            f"{type(env).__name__} has no time limit, and whole episodes must end. Make it a dataclass with "
            "a field `horizon`, 0 for no limit, so that evaluation can set one."
        )
    changed: Any = env
    return replace(changed, **{field: steps})


def check_time_limit(env: AbstractFamily) -> None:
    """Raises `UserError` if there is no time limit, without which whole episodes may never end."""
    if not env.horizon:
        option = (time_limit_field(env) or "horizon").replace("_", "-")
        raise UserError(
            f"{getattr(env, 'name', type(env).__name__)} states no time limit, and whole episodes must end; "
            f"set --env.{option} STEPS, or sample fixed numbers of steps where the algorithm can, as PPO and "
            "TRPO: --streams 8 --steps 256."
        )


class AbstractEnv(AbstractFamily):
    """A family of tasks in pure JAX.

    Its methods are pure functions of one task, one episode and one step, and are vmapped outside. `state` is
    any pytree of arrays. There is no other state: the task is an argument.
    """

    is_traceable = True

    def simulator(self, threads: int) -> AbstractSimulator:
        del threads  # XLA has its own
        return JaxSimulator(self.reset, self.step)

    @abstractmethod
    def reset(self, key: Key, task: Task) -> tuple[Any, Observations]:
        """The state and the first observation of a new episode."""

    @abstractmethod
    def step(self, key: Key, state: Any, action: Array, task: Task) -> Step:
        """One step. The action is as the policy sampled it; the environment itself clips it where it must."""
