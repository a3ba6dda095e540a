"""Gymnasium's spaces as ours: the form of observations and actions, and the maps between both."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree, Shaped

from surefoot.options import UserError, shown
from surefoot.types import ActionSpace, Continuous, Discrete, MultiDiscrete, ObservationSpace, image, vector

SMALLEST_IMAGE = 7
"""Pixels on the shorter side of an image."""
_ROUNDING = 1e-3
"""Part of a bound by which an observation may lie beyond it."""
_NO_BOUND = 1e30
"""A bound from which on there is none: some environments write the largest float for infinity."""


def observation_space(name: str, space: Any) -> ObservationSpace:
    """The form of the observations of the environment `name`. Dictionaries and tuples keep their parts.

    A Box is an image where it has three axes, or two of uint8, and both sides are of 7 pixels or more. The
    axis of the channels may be the last; it is the first where that is the shortest, or where only the other
    two are equal. Everything else is flattened to a vector, whole numbers of a `Discrete` one-hot. Raises
    `UserError` if that is impossible, or leaves no elements.
    """
    try:
        form = _form(space)
    except (NotImplementedError, ValueError) as error:
        raise UserError(
            f"The observations of {name} are {space!r}, which cannot be flattened to a vector of fixed "
            "length; wrap the environment in one that gives a Box."
        ) from error
    if not any(math.prod(part.shape) for part in jax.tree.leaves(form)):
        raise UserError(f"The observations of {name} are {space!r}, which has no elements to learn from.")
    return form


def _form(space: Any) -> ObservationSpace:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        if len({type(name) for name in space}) > 1:
            raise UserError(
                f"The keys {shown(list(space))} of an observation space cannot be sorted; let all of them be "
                "strings."
            )
        return {name: _form(part) for name, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map(_form, space))
    shape = _image_shape(space)
    if shape is not None:
        return image(*shape, np.uint8 if space.dtype == np.uint8 else np.float32)
    return vector(int(spaces.flatdim(space)))


def flattened_parts(space: Any, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The parts of an observation space, `name` and the keys in it, that are arrays of several axes and no
    images, and their shapes."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        for key, part in parts:
            yield from flattened_parts(part, f"{name}[{key!r}]")
    elif isinstance(space, spaces.Box) and len(space.shape) > 1 and _image_shape(space) is None:
        yield name, space.shape


def _image_shape(space: Any) -> tuple[int, int, int] | None:
    """Height, width and channels if the space is one of images."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Box):
        return None
    if len(space.shape) == 2 and space.dtype == np.uint8:
        (height, width), channels = space.shape, 1
    elif len(space.shape) != 3:
        return None
    elif space.shape[0] < min(space.shape[1:]) or space.shape[0] != space.shape[1] == space.shape[2]:
        channels, height, width = space.shape
    else:
        height, width, channels = space.shape
    return (height, width, channels) if min(height, width) >= SMALLEST_IMAGE else None


def arranger(space: Any) -> Callable[[Any], PyTree[np.ndarray]]:
    """The map from an observation of the environment, which belongs to its space, to the form that
    `observation_space` gives. Numbers keep their dtypes."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        parts = {name: arranger(part) for name, part in space.items()}
        return lambda given: {name: part(given[name]) for name, part in parts.items()}
    if isinstance(space, spaces.Tuple):
        each = tuple(map(arranger, space))
        return lambda given: tuple(part(x) for part, x in zip(each, given, strict=True))
    shape = _image_shape(space)
    if shape is not None and len(space.shape) == 3 and shape != space.shape:
        return lambda given: np.moveaxis(np.asarray(given), 0, -1)
    if shape is not None:
        return lambda given: np.reshape(given, shape)
    if isinstance(space, spaces.Box):
        return lambda given: np.reshape(given, -1)
    return lambda given: spaces.flatten(space, given)


def membership(space: Any) -> Callable[[Any], bool]:
    """The test whether an observation is one of its space. Of real numbers any precision does, and they may
    lie beyond a bound by what rounding explains."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        parts = {name: membership(part) for name, part in space.items()}
        return lambda given: (
            isinstance(given, Mapping)
            and given.keys() == parts.keys()
            and all(part(given[name]) for name, part in parts.items())
        )
    if isinstance(space, spaces.Tuple):
        each = tuple(map(membership, space))
        return lambda given: (
            isinstance(given, tuple | list)
            and len(given) == len(each)
            and all(part(x) for part, x in zip(each, given, strict=True))
        )
    if not isinstance(space, spaces.Box):
        return lambda given: bool(space.contains(given))
    low, high, shape = space.low, space.high, space.shape
    if space.dtype.kind in "bui":
        return lambda given: np.shape(given) == shape and _whole(given, low, high)
    bounded_below, bounded_above = (np.abs(bound) < _NO_BOUND for bound in (low, high))
    if not (bounded_below.any() or bounded_above.any()):
        return lambda given: np.shape(given) == shape
    low, high = (bound.astype(np.float64) for bound in (low, high))
    low = np.where(bounded_below, low - _ROUNDING * np.maximum(1, np.abs(low)), -np.inf)
    high = np.where(bounded_above, high + _ROUNDING * np.maximum(1, np.abs(high)), np.inf)
    # NaN is no comparison's business here: whether numbers are finite is asked of all rows at once.
    return lambda given: np.shape(given) == shape and not ((given < low) | (given > high)).any()


def _whole(given: Any, low: np.ndarray, high: np.ndarray) -> bool:
    values = np.asarray(given)
    return values.dtype.kind in "bui" and bool(((low <= values) & (values <= high)).all())


def action_space(name: str, space: Any) -> ActionSpace:
    """The form of the actions of the environment `name`. Raises `UserError` if no policy can sample them."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscrete(tuple(int(n) for n in np.ravel(space.nvec)))
    if isinstance(space, spaces.MultiBinary):
        return MultiDiscrete((2,) * math.prod(space.shape))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and 0 not in space.shape:
        return Continuous(math.prod(space.shape))
    raise UserError(
        f"The actions of {name} are {space!r}; surefoot's policies sample from a Discrete, MultiDiscrete or "
        "MultiBinary space, or a Box of real numbers with one element or more. Wrap the environment in one "
        "that takes these."
    )


def action_map(space: Any, scaled: bool) -> Callable[[Shaped[np.ndarray, "n ..."]], np.ndarray]:
    """The map from a policy's actions to those of the environment's action space, scaled and clipped to its
    bounds."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return lambda actions: space.start + actions.astype(np.int64)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        start = getattr(space, "start", 0)
        return lambda actions: (start + actions.reshape(-1, *space.shape)).astype(space.dtype)
    low, high = space.low, space.high
    bounded = (np.abs(low) < _NO_BOUND) & (np.abs(high) < _NO_BOUND) & scaled
    least, most = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    middle, half = (least + most) / 2, (most - least) / 2

    def mapped(actions: Shaped[np.ndarray, "n ..."]) -> np.ndarray:
        units = middle + half * actions.reshape(-1, *space.shape)
        return np.clip(units, low, high).astype(space.dtype)

    return mapped
