"""Gymnax's environments: CartPole, Acrobot, Pendulum, MountainCar, … in pure JAX (Lange, 2022)."""

import importlib
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import UserError, check, suggestion
from surefoot.types import ActionSpace, Continuous, Discrete, Key, Task


@dataclass(frozen=True)
class Gymnax(AbstractEnv):
    """One of gymnax's environments, by its name there, with its parameters as gymnax sets them.

    Needs the extra: `pip install 'surefoot[gymnax]'`. There is one task, without content: `[0]`. The
    observation is flattened to a vector of floating-point numbers, whatever its shape and dtype in gymnax.
    Continuous actions are clipped to the bounds that gymnax states.

    CartPole-v1, Pendulum-v1, Acrobot-v1, MountainCar-v0 and MountainCarContinuous-v0 have the dynamics,
    rewards and time limits of Gymnasium's environments of the same names, with two exceptions, both in the
    last: the car that hits the left wall keeps its velocity, where Gymnasium stops it; and the reward charges
    the action as clipped, where Gymnasium charges it as drawn.

    `horizon`, and all else that asks gymnax, raises `UserError` where gymnax is not installed, does not know
    the name, or gives actions that are neither `Discrete` nor a `Box`.
    """

    name: str = "CartPole-v1"
    """One of `gymnax.registered_envs`, those included that you registered yourself."""
    time_limit: int | None = None
    """Steps after which an episode is cut short; the environment's own limit if None."""

    def __post_init__(self) -> None:
        limit = self.time_limit
        check(limit is None or limit >= 1, "time_limit", limit, "1 or more, or None")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """Steps: the time limit, or what gymnax calls `max_steps_in_episode`."""
        return self.time_limit or int(self._made.parameters.max_steps_in_episode)

    @property
    def observation_size(self) -> int:
        return self._made.observation_size

    @property
    def action_space(self) -> ActionSpace:
        space = self._made.action_space
        return Discrete(space.n) if hasattr(space, "n") else Continuous(math.prod(space.shape))

    @property
    def time_limit_ends_return(self) -> bool:
        return False

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))

    def reset(self, key: Key, task: Task) -> tuple[PyTree, Float[Array, " obs"]]:
        del task
        env, parameters, *_ = self._made
        with _as_gymnax_computes():
            observation, state = env.reset_env(key, parameters)
        return jax.tree.map(_strong, state), _flat(observation)

    def step(self, key: Key, state: PyTree, action: Array, task: Task) -> Step:
        del task
        env, parameters, space, _ = self._made
        with _as_gymnax_computes():
            # Not `env.step`, which starts a new episode of itself at gymnax's own time limit.
            observation, following, reward, terminated, _ = env.step_env(
                key, state, _clipped(action, space), parameters
            )
        # In double precision some of gymnax's states change their dtypes at the first step.
        following = jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), state, following)
        return Step(following, _flat(observation), jnp.asarray(reward, float), jnp.asarray(terminated, bool))

    @property
    def _made(self) -> "_Made":
        return _make(self.name, str(jnp.zeros(()).dtype))


class _Made(NamedTuple):
    """What gymnax makes of a name."""

    env: Any
    parameters: Any
    action_space: Any
    observation_size: int


@lru_cache
def _make(name: str, dtype: str) -> _Made:
    """Once for each name and default dtype: gymnax's objects can be neither hashed nor compared, and so are
    kept out of `Gymnax`."""
    del dtype
    # Gymnax may first be met while something is traced; its constants outlive that.
    with jax.ensure_compile_time_eval(), _as_gymnax_computes():
        gymnax = _gymnax()
        if name not in gymnax.registered_envs:
            known = gymnax.registered_envs
            raise UserError(
                f"gymnax has no environment {name!r}.{suggestion(name, known)} It has: {', '.join(known)}."
            )
        env, parameters = gymnax.make(name)
        space = env.action_space(parameters)
        if not (hasattr(space, "n") or hasattr(space, "low")):
            raise UserError(
                f"The actions of gymnax's {name!r} are {space!r}; surefoot's policies draw from a Discrete "
                "or a Box. Choose another environment."
            )
        observation, _ = jax.eval_shape(lambda key: env.reset_env(key, parameters), jax.random.key(0))
    return _Made(env, parameters, space, sum(leaf.size for leaf in jax.tree.leaves(observation)))


def _gymnax() -> Any:
    try:
        # It takes longer to import than all else that gymnax needs, and serves two of its pictures.
        with _deferred("seaborn"):
            return importlib.import_module("gymnax")
    except ImportError as error:
        raise UserError(
            f"Gymnax environments need gymnax, and importing it failed: {error}. "
            "Install it: pip install 'surefoot[gymnax]'."
        ) from error


class _Deferred(ModuleType):
    """Stands for a module, which is imported when something in it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _deferred(name: str) -> Iterator[None]:
    """Who imports the module meanwhile is given what stands for it."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = _Deferred(name)
    try:
        yield
    finally:
        del sys.modules[name]


def _as_gymnax_computes() -> Any:
    """Gymnax mixes dtypes, which strict promotion would refuse."""
    return jax.numpy_dtype_promotion("standard")


def _clipped(action: Array, space: Any) -> Array:
    return action if hasattr(space, "n") else jnp.clip(action.reshape(space.shape), space.low, space.high)


def _strong(x: Any) -> Array:
    """With its dtype made explicit: a loop's carry may not turn from weakly to strongly typed."""
    return jnp.asarray(x, jnp.asarray(x).dtype)


def _flat(observation: PyTree) -> Float[Array, " obs"]:
    leaves = jax.tree.leaves(observation)
    return jnp.concatenate([jnp.ravel(jnp.asarray(leaf, float)) for leaf in leaves])
