"""Gymnasium's environments, and others with its interface (Towers et al., 2024)."""

import importlib
import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from surefoot.envs.base import AbstractFamily
from surefoot.envs.gymnasium_simulator import GymnasiumSimulator
from surefoot.envs.gymnasium_tasks import sample_tasks
from surefoot.loading import load_class
from surefoot.options import Options, UserError, at_least, suggestion
from surefoot.types import ActionSpace, Continuous, Discrete, Key, Task


@dataclass(frozen=True)
class Gymnasium(Options, AbstractFamily):
    """A registered environment of Gymnasium, or a class of yours that derives from `gymnasium.Env` and needs
    no arguments.

    Requires the extra: `pip install 'surefoot[gymnasium]'`. Observations are flattened by
    `gymnasium.spaces.flatten`, discrete ones to one-hot vectors. Actions are `Discrete`, or a `Box` of real
    numbers, to whose bounds they are clipped.

    There is one task, an empty array, unless the class has a static method `sample_tasks(seed, n)`. It
    returns n tasks, an array or a pytree of arrays with a leading axis of n, that depend on its arguments
    only. Then every episode begins with `reset(seed=…, options={"task": …})`. Both seeds are below 2³², and
    everything random must follow from them.

    The sampler counts the horizon, and Gymnasium's own `TimeLimit` is removed. An environment that reports
    `truncated` before the horizon is an error, since its meaning is not known: a state from which nothing
    more can be earned is `terminated`, and a time limit is `time_limit`.

    Everything that needs Gymnasium raises `UserError` if it is not installed, if there is no such
    environment, or if it is not supported.
    """

    name: str = "CartPole-v1"
    """Registered id, written `MODULE:ID` if a module must be imported for it; or `MODULE:CLASS`, where MODULE
    may be the path of a .py file."""
    time_limit: Annotated[int | None, at_least(1)] = None
    """Number of steps after which an episode is truncated; none for the registered `max_episode_steps`."""

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """The time limit, or the registered one. Raises `UserError` if there is none."""
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
        """n tasks, from the class's own `sample_tasks` if it has one. Raises `UserError` if that fails or
        returns something else."""
        task_class = _examined(self.name).task_class
        return jnp.zeros((n, 0)) if task_class is None else sample_tasks(task_class, key, n)

    def simulator(self, threads: int) -> GymnasiumSimulator:
        del threads  # environments in Python share one anyway
        has_tasks = _examined(self.name).task_class is not None
        return GymnasiumSimulator(self.name, partial(_make, self.name), self.horizon, has_tasks)


class _Examined(NamedTuple):
    """The properties of an environment, read from an instance."""

    task_class: type | None
    """Its class, if that has a method `sample_tasks`."""
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
        cls = type(env.unwrapped)
        tasks = cls if hasattr(cls, "sample_tasks") else None
        return _Examined(tasks, limit, size, _action_space(name, env.action_space))
    finally:
        env.close()


def _make(name: str) -> Any:
    """A new instance, without a time limit of its own."""
    gymnasium = _gymnasium()
    make: Any = partial(gymnasium.make, name, max_episode_steps=-1, disable_env_checker=True)
    _, colon, attribute = name.rpartition(":")
    if colon and attribute.isidentifier():
        make = load_class(name)
        if not issubclass(make, gymnasium.Env):
            raise UserError(f"{name} is no gymnasium.Env; derive the class from it.")
    try:
        return make()
    except Exception as error:
        near = "" if name in gymnasium.registry else suggestion(name, gymnasium.registry)
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


def _action_space(name: str, space: Any) -> ActionSpace:
    spaces = _gymnasium().spaces
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Continuous(math.prod(space.shape))
    raise UserError(
        f"The actions of {name} are {space!r}; surefoot's policies sample from a Discrete or a Box of real "
        "numbers. Wrap the environment in one that takes these."
    )
