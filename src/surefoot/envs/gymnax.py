"""Gymnax's environments: CartPole, Acrobot, Pendulum, MountainCar and others in pure JAX (Lange, 2022)."""

import importlib
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from surefoot.envs.base import AbstractEnv, Step
from surefoot.envs.gymnasium_spaces import SMALLEST_IMAGE
from surefoot.loading import FAILURES, told
from surefoot.options import Options, UserError, at_least, import_extra, suggestion
from surefoot.types import ActionSpace, Continuous, Discrete, Key, ObservationSpace, Task


@dataclass(frozen=True)
class Gymnax(Options, AbstractEnv):
    """An environment of gymnax, with its default parameters.

    Requires the extra: `pip install 'surefoot[gymnax]'`. There is one task, an empty array `[0]`. Images,
    such as those of MinAtar's games, remain images of floating-point numbers, a whole number of a `Discrete`
    space becomes one-hot, and other observations are flattened to a vector. Continuous actions are clipped to
    gymnax's bounds.

    CartPole-v1, Pendulum-v1, Acrobot-v1, MountainCar-v0 and MountainCarContinuous-v0 have the dynamics,
    rewards and time limits of Gymnasium's environments of the same names, with two exceptions, both in the
    last: a car that hits the left wall keeps its velocity, where Gymnasium stops it; and the reward's cost of
    the action is that of the clipped one, where Gymnasium takes the sampled one.

    Everything that needs gymnax raises `UserError` if it is not installed, if it has no environment of this
    name, or if the actions are neither `Discrete` nor a `Box`.
    """

    name: str = "CartPole-v1"
    """Name of the environment, one of `gymnax.registered_envs`; that includes those you registered."""
    time_limit: Annotated[int | None, at_least(1)] = None
    """Number of steps after which an episode is truncated; none for the environment's own limit."""
    time_limit_ends_return = False

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """The time limit, or gymnax's `max_steps_in_episode`."""
        return self.time_limit or int(self._made.parameters.max_steps_in_episode)

    @property
    def observation_space(self) -> ObservationSpace:
        return self._made.observation_space

    @property
    def action_space(self) -> ActionSpace:
        space = self._made.action_space
        return Discrete(space.n) if hasattr(space, "n") else Continuous(math.prod(space.shape))

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))

    def reset(self, key: Key, task: Task) -> tuple[PyTree, Array]:
        del task
        env, parameters, _, values, _ = self._made
        with _standard_promotion():
            observation, state = env.reset_env(key, parameters)
        # Explicit dtypes: the carry of a loop may not turn from weakly to strongly typed.
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state), _arranged(
            observation, values
        )

    def step(self, key: Key, state: PyTree, action: Array, task: Task) -> Step:
        del task
        env, parameters, space, values, _ = self._made
        with _standard_promotion():
            if not hasattr(space, "n"):
                action = jnp.clip(action.reshape(space.shape), space.low, space.high)
            # Not `env.step`, which starts a new episode by itself at gymnax's own time limit.
            observation, following, reward, terminated, _ = env.step_env(key, state, action, parameters)
        # In double precision some of gymnax's states change their dtypes at the first step.
        following = jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), state, following)
        seen = _arranged(observation, values)
        return Step(following, seen, jnp.asarray(reward, float), jnp.asarray(terminated, bool))

    @property
    def dt(self) -> float:
        """Seconds for which gymnax's own animations show a step."""
        return _visualizer(self.name).interval / 1000

    def render(self, state: PyTree, task: Task) -> UInt8[np.ndarray, "height width 3"]:
        """A picture by gymnax's `Visualizer`. Raises `UserError` if it does not draw this environment."""
        del task
        visualizer = _visualizer(self.name)
        visualizer.state_seq = [state]
        with _standard_promotion():
            if not hasattr(visualizer, "im"):
                _begin_drawing(visualizer)
            if not hasattr(visualizer, "im"):
                raise UserError(f"{self.name} cannot be filmed: gymnax's Visualizer does not draw it.")
            visualizer.update(0)
        visualizer.ax.set_title("")
        canvas = importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(visualizer.fig)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    @property
    def _made(self) -> "_Made":
        return _make(self.name, str(jnp.zeros(()).dtype))


class _Made(NamedTuple):
    """An environment of gymnax and its properties."""

    env: Any
    parameters: Any
    action_space: Any
    values: int | None
    """The number of values of an observation that is one whole number; None of any other."""
    observation_space: jax.ShapeDtypeStruct


@lru_cache
def _make(name: str, dtype: str) -> _Made:
    """The environment of this name, made once for each default dtype. Gymnax's objects can be neither hashed
    nor compared, so they are not fields of `Gymnax`."""
    del dtype
    # The first call may be within a traced function; gymnax's constants must outlive it.
    with jax.ensure_compile_time_eval(), _standard_promotion():
        gymnax = _gymnax()
        if name not in gymnax.registered_envs:
            known = gymnax.registered_envs
            raise UserError(
                f"gymnax has no environment {name!r}.{suggestion(name, known)} It has: {', '.join(known)}."
            )
        try:
            env, parameters = gymnax.make(name)
            space, observed = env.action_space(parameters), env.observation_space(parameters)
        except FAILURES as error:
            raise UserError(f"Making gymnax's {name!r} raised {told(error)}.") from error
        if not (hasattr(space, "n") or hasattr(space, "low")):
            raise UserError(
                f"The actions of gymnax's {name!r} are {space!r}; surefoot's policies sample from a Discrete "
                "or a Box. Choose another environment."
            )
        observation, _ = jax.eval_shape(lambda key: env.reset_env(key, parameters), jax.random.key(0))
    values = getattr(observed, "n", None)
    form = jax.eval_shape(lambda observation: _arranged(observation, values), observation)
    return _Made(env, parameters, space, values, form)


@lru_cache
def _visualizer(name: str) -> Any:
    """Gymnax's drawing of this environment, on one figure."""
    made = Gymnax(name)._made
    return importlib.import_module("gymnax.visualize").Visualizer(made.env, made.parameters, [])


def _begin_drawing(visualizer: Any) -> None:
    """Draws the first state. Parts of gymnax draw on pyplot's current axes; no window is shown."""
    pyplot = importlib.import_module("matplotlib.pyplot")
    pyplot.sca(visualizer.ax)
    try:
        visualizer.init()
    finally:
        pyplot.close(visualizer.fig)


def _gymnax() -> Any:
    # It takes longer to import than everything else, and gymnax needs it only for two pictures.
    with _deferred("seaborn"):
        return import_extra("gymnax", "Gymnax environments need gymnax", "gymnax")


class _Deferred(ModuleType):
    """A module that is imported when one of its attributes is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _deferred(name: str) -> Iterator[None]:
    """A context in which importing the module gives a `_Deferred` one."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = _Deferred(name)
    try:
        yield
    finally:
        del sys.modules[name]


def _standard_promotion() -> Any:
    """JAX's standard promotion of dtypes: gymnax mixes them, which strict promotion refuses."""
    return jax.numpy_dtype_promotion("standard")


def _arranged(observation: PyTree, values: int | None) -> Array:
    """An observation as an image or a vector. One that is a whole number below `values` becomes one-hot;
    `values` is None for any other."""
    if values is not None:
        return jax.nn.one_hot(jnp.asarray(observation, jnp.int32).reshape(()), values, dtype=float)
    leaves = jax.tree.leaves(observation)
    if len(leaves) == 1 and leaves[0].ndim == 3 and min(leaves[0].shape[:2]) >= SMALLEST_IMAGE:
        return jnp.asarray(leaves[0], float)
    return jnp.concatenate([jnp.ravel(jnp.asarray(leaf, float)) for leaf in leaves])
