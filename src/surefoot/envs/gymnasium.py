"""Gymnasium's environments, and others with its interface (Towers et al., 2024)."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from surefoot.envs.base import AbstractFamily
from surefoot.envs.gymnasium_simulator import GymnasiumSimulator, close_env
from surefoot.envs.gymnasium_spaces import action_space, observation_space
from surefoot.envs.gymnasium_tasks import sample_tasks
from surefoot.loading import FAILURES, load, search, told
from surefoot.options import Options, UserError, at_least, check, import_extra, shown, suggestion
from surefoot.types import ActionSpace, Continuous, Key, ObservationSpace, Task


@dataclass(frozen=True)
class Gymnasium(Options, AbstractFamily):
    """A registered environment of Gymnasium, a class of yours that derives from `gymnasium.Env`, or a
    function that makes an environment, with its wrappers.

    Requires the extra: `pip install 'surefoot[gymnasium]'`. Observations may be vectors, images, and
    dictionaries or tuples of them; other arrays are flattened, and discrete observations are one-hot vectors.
    Actions are `Discrete`, `MultiDiscrete`, `MultiBinary`, or a `Box` of real numbers.

    There is one task, an empty array, unless the class, or one of the wrappers', has a static method
    `sample_tasks(seed, n)`. It returns n tasks, an array or a pytree of arrays with a leading axis of n, that
    depend on its arguments only. Then every episode begins with `reset(seed=…, options={"task": …})`. Both
    seeds are below 2³², and everything random must follow from them.

    The sampler counts the horizon, and the time limit that Gymnasium's registry adds is removed. Where the
    environment itself reports `truncated`, the episode ends too, and the value of what would follow counts.
    An environment without any time limit is trained by streams.

    Everything that needs Gymnasium raises `UserError` if it is not installed, if there is no such
    environment, or if it is not supported.
    """

    name: str = "CartPole-v1"
    """Registered id, written `MODULE:ID` if a module must be imported for it; or `MODULE:CLASS` or
    `MODULE:FUNCTION`, where MODULE may be the path of a .py file."""
    kwargs: tuple[str, ...] = ()
    """Arguments of the constructor, each NAME=VALUE with VALUE in YAML: `size=5 slippery=false`. A mapping
    from names to values will do too; tuples in it become lists, as YAML has no tuples."""
    time_limit: Annotated[int | None, at_least(1)] = None
    """Number of steps after which an episode is truncated; none for that of its `TimeLimit` wrapper, or the
    registered `max_episode_steps`."""
    actions: Literal["scaled", "clipped"] = "scaled"
    """Unit of continuous actions where the space has bounds. `scaled`: −1 and 1 are the bounds. `clipped`:
    they are the environment's own. Beyond the bounds they are clipped either way."""
    time_limit_ends_return = False

    def __post_init__(self) -> None:
        given: Any = self.kwargs
        if isinstance(given, Mapping):
            lines = [f"{name}={_in_yaml(value)}" for name, value in given.items()]
            object.__setattr__(self, "kwargs", tuple(lines))
        Options.__post_init__(self)
        names = []
        for argument in self.kwargs:
            name, sign, _ = argument.partition("=")
            check(bool(sign) and name.isidentifier(), "kwargs", argument, "NAME=VALUE")
            names.append(name)
        check(len(set(names)) == len(names), "kwargs", self.kwargs, "each name once")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """The time limit, or the registered one; 0 if there is none."""
        return self.time_limit or self._examined.limit or 0

    @property
    def observation_space(self) -> ObservationSpace:
        return self._examined.observation_space

    @property
    def action_space(self) -> ActionSpace:
        return self._examined.action_space

    @property
    def clipping_bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        return self._examined.action_bounds if self.actions == "clipped" else None

    def sample_tasks(self, key: Key, n: int) -> Task:
        """n tasks, from the class's own `sample_tasks` if it has one. Raises `UserError` if that fails or
        returns something else."""
        task_class = self._examined.task_class
        return jnp.zeros((n, 0)) if task_class is None else sample_tasks(task_class, key, n)

    def simulator(self, threads: int) -> GymnasiumSimulator:
        del threads  # environments in Python share one anyway
        return GymnasiumSimulator(
            self.name,
            partial(_make, self.name, self.kwargs),
            has_tasks=self._examined.task_class is not None,
            scaled=self.actions == "scaled",
            horizon=self.horizon,
            actions=self.action_space,
        )

    def rendering(self) -> "Gymnasium":
        """The same environment, made to render `rgb_array`. Raises `UserError` if it does not."""
        given = [argument for argument in self.kwargs if argument.partition("=")[0] != "render_mode"]
        # What takes no such argument may render in this way all the same.
        for env in (replace(self, kwargs=(*given, "render_mode=rgb_array")), self):
            with suppress(UserError):
                if env._examined.render_mode == "rgb_array":
                    return env
        raise UserError(
            f'{self.name} cannot be filmed: made with the argument render_mode="rgb_array" it must render '
            "so. A class takes the argument and has it as `self.render_mode`; a function hands it on."
        )

    @property
    def frames_per_second(self) -> float:
        """The speed at which it is shown, by its own metadata; 30 if they do not say."""
        return self._examined.frames_per_second

    @property
    def _examined(self) -> "_Examined":
        return _examine(self.name, self.kwargs)


class _Examined(NamedTuple):
    """The properties of an environment, read from an instance."""

    task_class: type | None
    """The class that has a method `sample_tasks`: its own, or that of the outermost wrapper."""
    limit: int | None
    observation_space: ObservationSpace
    action_space: ActionSpace
    action_bounds: tuple[np.ndarray, np.ndarray] | None
    """The bounds of a continuous action space, flattened; None of any other."""
    render_mode: str | None
    frames_per_second: float


@lru_cache
def _examine(name: str, kwargs: tuple[str, ...]) -> _Examined:
    # The first call may be within a traced function, and an environment may compute with JAX.
    with jax.ensure_compile_time_eval():
        return _examine_made(name, _make(name, kwargs))


def _examine_made(name: str, env: Any) -> _Examined:
    try:
        registered = _gymnasium().registry.get(getattr(getattr(env, "spec", None), "id", None))
        observations = observation_space(name, _space(name, env, "observation_space"))
        tasks = next((type(e) for e in _layers(env) if hasattr(type(e), "sample_tasks")), None)
        of_actions = _space(name, env, "action_space")
        actions = action_space(name, of_actions)
        bounds = None
        if isinstance(actions, Continuous):
            bounds = of_actions.low.reshape(-1), of_actions.high.reshape(-1)
        limit = time_limit_of(env) or (registered and registered.max_episode_steps)
        metadata = env.metadata if isinstance(env.metadata, Mapping) else {}
        mode, frames = getattr(env, "render_mode", None), metadata.get("render_fps") or 30
        return _Examined(tasks, limit, observations, actions, bounds, mode, float(frames))
    finally:
        close_env(name, env)


def _in_yaml(value: Any) -> str:
    """A value on one line of YAML. Raises `UserError` if it is none that YAML has."""
    if isinstance(value, str) and _read(value) != value:
        return json.dumps(value, ensure_ascii=False)  # in quotes, so that it is read as text
    try:
        return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    except yaml.YAMLError as error:
        raise UserError(
            f"kwargs hold {shown(value)}, which no configuration file can hold; a function "
            "MODULE:FUNCTION that makes the environment can have it."
        ) from error


def _read(written: str) -> Any:
    """The value that is written in YAML; 1e-3 is a number too, where YAML 1.1 asks for a dot."""
    value = yaml.safe_load(written)
    if isinstance(value, str) and value == written.strip() and value[:1] in "+-.0123456789":
        with suppress(ValueError):
            return float(value)
    return value


def time_limit_of(env: Any) -> int | None:
    """The time limit of the outermost wrapper that sets one; None if there is no such wrapper."""
    limits = (x for x in _layers(env) if isinstance(x, _gymnasium().wrappers.TimeLimit))
    return next((int(wrapper._max_episode_steps) for wrapper in limits), None)


def _layers(env: Any) -> Iterator[Any]:
    """The environment, and what it wraps, from outside to inside."""
    while env is not None:
        yield env
        env = env.env if isinstance(env, _gymnasium().Wrapper) else None


def _make(name: str, kwargs: tuple[str, ...]) -> Any:
    """A new instance, without the time limit of the registry."""
    gymnasium = _gymnasium()
    make: Any = partial(gymnasium.make, name, max_episode_steps=-1, disable_env_checker=True)
    _, colon, attribute = name.rpartition(":")
    if colon and attribute.isidentifier():
        make = load(name)
        if not callable(make):
            raise UserError(f"{name} is no class and no function; name one that makes the environment.")
    elif colon:
        search(Path.cwd())  # for MODULE:ID, whose module Gymnasium imports
    try:
        pairs = [argument.partition("=")[::2] for argument in kwargs]
        env = make(**{argument: _read(value) for argument, value in pairs})
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        near = "" if name in gymnasium.registry else suggestion(name, gymnasium.registry)
        given = f" with {' '.join(kwargs)}" if kwargs else ""
        raise UserError(
            f"Making the environment {name}{given} raised {told(error)}.{near} It must be known to "
            "Gymnasium, or be a class or a function MODULE:NAME; its arguments are given by --env.kwargs "
            "NAME=VALUE."
        ) from error
    if not isinstance(env, gymnasium.Env):
        raise UserError(f"{name} is no gymnasium.Env, but {shown(env)}; derive the class from it.")
    return env


def _space(name: str, env: Any, attribute: str) -> Any:
    """The space of an environment. Raises `UserError` if it has none."""
    try:
        space = getattr(env, attribute)
    except FAILURES as error:
        if hasattr(type(env), attribute):  # a property
            raise UserError(f"{name}: `{attribute}` raised {told(error)}.") from error
        space = None
    if not isinstance(space, _gymnasium().spaces.Space):
        what = "has none" if space is None else f"has {shown(space)} there"
        raise UserError(
            f"{name} must state its `{attribute}` when it is made, and {what}: set it as a class attribute "
            f"or in `__init__`, as in `self.{attribute} = gymnasium.spaces.Box(-1, 1, (3,))`."
        )
    return space


def _gymnasium() -> Any:
    return import_extra("gymnasium", "Gymnasium's environments need gymnasium", "gymnasium")
