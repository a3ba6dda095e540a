"""Gymnasium's environments, and any that follow its interface (Towers et al., 2024)."""

import importlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from surefoot.envs.base import AbstractFamily
from surefoot.envs.gymnasium_simulator import GymnasiumSimulator
from surefoot.envs.gymnasium_tasks import drawn, has_tasks
from surefoot.loading import load_class
from surefoot.options import UserError, check, suggestion
from surefoot.types import ActionSpace, Continuous, Discrete, Key, Task


@dataclass(frozen=True)
class Gymnasium(AbstractFamily):
    """An environment that is registered with Gymnasium, or a class of yours that derives from
    `gymnasium.Env` and can be built without arguments.

    Needs the extra: `pip install 'surefoot[gymnasium]'`. Observations are flattened as
    `gymnasium.spaces.flatten` does, discrete ones to one-hot vectors. Actions are `Discrete`, or a `Box` of
    real numbers, to whose bounds they are clipped.

    There is one task, without content, unless the class has a static method `sample_tasks(seed, n)` that
    gives n tasks, an array or a pytree of arrays with a leading axis of n, and depends on nothing but its
    arguments. Then every episode begins with `reset(seed=…, options={"task": …})`. Both seeds are below
    2³², and everything random must follow from them.

    The horizon is the sampler's to count, and Gymnasium's own `TimeLimit` is left out. An environment that
    reports `truncated` before the horizon is an error, for what it meant is not known: a state from which
    nothing more can be earned is `terminated`, and a time limit is `time_limit`.

    Whatever asks Gymnasium raises `UserError` where it is not installed, where there is no such
    environment, or where it cannot be used.
    """

    name: str = "CartPole-v1"
    """A registered id, `MODULE:ID` if a module must be imported for it; or `MODULE:CLASS`, where MODULE may
    be the path of a .py file."""
    time_limit: int | None = None
    """Steps after which an episode is cut short; `max_episode_steps` of its registration if None."""

    def __post_init__(self) -> None:
        limit = self.time_limit
        check(limit is None or limit >= 1, "time_limit", limit, "1 or more, or None")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """Steps: the time limit, or the one it is registered with."""
        limit = self.time_limit or _examined(self.name).limit
        if limit is None:
            raise UserError(
                f"{self.name} states no time limit, and episodes must end; set --env.time-limit STEPS."
            )
        return limit

    @property
    def observation_size(self) -> int:
        return _examined(self.name).observation_size

    @property
    def action_space(self) -> ActionSpace:
        return _examined(self.name).action_space

    @property
    def time_limit_ends_return(self) -> bool:
        return False

    def sample_tasks(self, key: Key, n: int) -> Task:
        """Raises `UserError` if the class's own `sample_tasks` fails or gives something else."""
        cls = _examined(self.name).cls
        return drawn(cls, key, n) if has_tasks(cls) else jnp.zeros((n, 0))

    def simulator(self, threads: int) -> GymnasiumSimulator:
        """All rows in one thread: environments in Python share it anyway."""
        del threads
        made = _examined(self.name)
        return GymnasiumSimulator(self.name, lambda: _make(self.name), self.horizon, has_tasks(made.cls))


class _Examined(NamedTuple):
    """What one instance tells of all."""

    cls: type
    limit: int | None
    observation_size: int
    action_space: ActionSpace


@lru_cache
def _examined(name: str) -> _Examined:
    env = _make(name)
    try:
        spec = getattr(env, "spec", None)
        limit = None if spec is None else _gymnasium().spec(spec.id).max_episode_steps
        size = _observation_size(name, env.observation_space)
        return _Examined(type(env.unwrapped), limit, size, _actions(name, env.action_space))
    finally:
        env.close()


def _make(name: str) -> Any:
    """A new instance, without a time limit of its own."""
    gymnasium = _gymnasium()
    _, colon, attribute = name.rpartition(":")
    if colon and attribute.isidentifier():
        cls = load_class(name)
        if not issubclass(cls, gymnasium.Env):
            raise UserError(f"{name} is no gymnasium.Env; derive the class from it.")
        return _built(name, cls)
    return _built(name, lambda: gymnasium.make(name, max_episode_steps=-1, disable_env_checker=True))


def _built(name: str, make: Any) -> Any:
    try:
        return make()
    except Exception as error:
        known = _gymnasium().registry
        near = "" if name in known else suggestion(name, known)
        raise UserError(
            f"Making the environment {name} raised {type(error).__name__}: {error}{near} It must be known to "
            "Gymnasium, or be a class MODULE:CLASS that needs no arguments."
        ) from error


def _gymnasium() -> Any:
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise UserError(
            f"Gymnasium's environments need gymnasium, and importing it failed: {error}. "
            "Install it: pip install 'surefoot[gymnasium]'."
        ) from error


def _observation_size(name: str, space: Any) -> int:
    try:
        return int(_gymnasium().spaces.flatdim(space))
    except (NotImplementedError, ValueError) as error:
        raise UserError(
            f"The observations of {name} are {space!r}, which cannot be flattened to a vector of fixed "
            "length; wrap the environment in one that gives a Box."
        ) from error


def _actions(name: str, space: Any) -> ActionSpace:
    spaces = _gymnasium().spaces
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Continuous(math.prod(space.shape))
    raise UserError(
        f"The actions of {name} are {space!r}; surefoot's policies draw from a Discrete or a Box of real "
        "numbers. Wrap the environment in one that takes these."
    )
