"""Gymnasium environments that a function makes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Annotated, Any

from surefoot.envs.base import AbstractFamily
from surefoot.envs.gymnasium import Gymnasium, time_limit_of
from surefoot.envs.gymnasium_simulator import close_env
from surefoot.envs.simulation import AbstractSimulator
from surefoot.loading import told
from surefoot.options import Options, UserError, at_least, import_extra, shown
from surefoot.types import ActionSpace, Key, ObservationSpace, Task

_NUMBERS = count()
_STEPS = 1000


@dataclass(frozen=True)
class GymnasiumFactory(Options, AbstractFamily):
    """The Gymnasium environment that a class or a function without arguments makes.

    A run of it cannot be written to a folder, and worker processes take it only if they can import what makes
    it. `Gymnasium("my_module:MyEnv")` can do both, be filmed, and take arguments; otherwise this is the same.
    Raises `UserError` if no environment of Gymnasium is made.
    """

    make: Callable[[], Any]
    """Makes a new environment."""
    time_limit: Annotated[int | None, at_least(1)] = None
    """Number of steps after which an episode is truncated. None for that of its `TimeLimit` wrapper
    or the one that it is registered with, or for 1,000 if it has none."""

    @cached_property
    def _registered(self) -> Gymnasium:
        gymnasium = import_extra("gymnasium", "Gymnasium's environments need gymnasium", "gymnasium")
        name = f"surefoot-made/{getattr(self.make, '__name__', 'env').strip('<>')}{next(_NUMBERS)}-v0"
        made = f"{getattr(self.make, '__name__', 'The function')}()"
        try:
            env = self.make()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(f"{made}, which makes the environment, raised {told(error)}.") from error
        if not isinstance(env, gymnasium.Env):
            raise UserError(f"{made} gave {shown(env)}; it must make an environment of Gymnasium.")
        limit = (
            self.time_limit or time_limit_of(env) or getattr(env.spec, "max_episode_steps", None) or _STEPS
        )
        close_env(made, env)
        gymnasium.register(name, entry_point=self.make)
        return Gymnasium(name, time_limit=limit)

    def __reduce__(self) -> tuple[Any, ...]:
        # What is registered here is not registered in another process.
        return GymnasiumFactory, (self.make, self.time_limit)

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        return self._registered.horizon

    @property
    def observation_space(self) -> ObservationSpace:
        return self._registered.observation_space

    @property
    def action_space(self) -> ActionSpace:
        return self._registered.action_space

    @property
    def time_limit_ends_return(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._registered.time_limit_ends_return

    def sample_tasks(self, key: Key, n: int) -> Task:
        return self._registered.sample_tasks(key, n)

    def simulator(self, threads: int) -> AbstractSimulator:
        return self._registered.simulator(threads)
