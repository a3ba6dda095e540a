"""The checks that the kits share, and how they compare trees of arrays."""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from numbers import Integral
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from surefoot.checks.problem import Problem, Problems, Stop, attempt, error, problem_of, summary
from surefoot.loading import FAILURES
from surefoot.options import on_one_line
from surefoot.types import (
    ActionSpace,
    Continuous,
    Discrete,
    Key,
    ObservationSpace,
    as_space,
    without_key,
)


def elements(method: str, result: Any, n: Literal[2, 3], why: str, remedy: str) -> Any:
    """`result`, which must be a tuple of n; raises `Stop` if it is not."""
    if isinstance(result, tuple) and len(result) == n:
        return result
    kind = {2: "pair", 3: "triple"}[n]
    raise Stop(error(f"`{method}` returns {describe(result)}, not a {kind}.", why, remedy))


def has_fields(method: str, result: Any, names: Sequence[str], why: str, remedy: str) -> Problems:
    """The result has all fields of a record."""
    missing = [f"`{name}`" for name in names if not hasattr(result, name)]
    if missing:
        lacks = ", ".join(missing)
        yield error(f"`{method}` returns {describe(result)}, which has no {lacks}.", why, remedy)


def is_class(subject: Any, kind: str) -> list[Problem]:
    """The problem that a class was passed where an instance is wanted."""
    if not isinstance(subject, type):
        return []
    problem = error(
        f"{subject.__name__} is a class, not {kind}.",
        "Its options are chosen when it is built.",
        f"Pass an instance: {subject.__name__}(...).",
    )
    return [replace(problem, check="is instance")]


def has_attribute(
    subject: Any,
    name: str,
    wanted: str,
    holds: Callable[[Any], bool],
    why: str,
    remedy: str = "a field of the dataclass, or a @property",
) -> Problems:
    """The attribute is there, is no method, and `holds` is true of its value."""
    remedy = f"Make `{name}` {wanted}: {remedy}."
    try:
        value = getattr(subject, name)
    except FAILURES as failed:
        if isinstance(failed, AttributeError) and not hasattr(type(subject), name):
            yield error(f"`{name}` is missing.", why, remedy)
        else:
            yield problem_of(name, failed)
        return
    if callable(value):
        yield error(f"`{name}` is a method.", why, f"Put @property above it. {remedy}")
    elif not holds(value):
        yield error(f"`{name}` is {value!r}; it must be {wanted}.", why, remedy)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of 1 or more."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


BOOL = ("True or False", lambda value: isinstance(value, bool))
COUNT = ("an int of 1 or more", is_count)
"""A condition on a value, in words and as a test, as `has_attribute` takes them."""


def has_methods(subject: Any, names: Sequence[str], contract: str) -> Problems:
    """Every method is there and can be called."""
    for name in names:
        if not callable(getattr(subject, name, None)):
            yield error(
                f"`{name}` is missing, or is not a method.",
                "The rest of the library calls it.",
                f"Define it as {contract} describes it.",
            )


def is_immutable(subject: Any) -> Problems:
    """It is hashable, and its attributes cannot be assigned to."""
    why = "It is a constant of compiled programs, which are found again by its hash and never see it change."
    remedy = "Make it a dataclass with @dataclass(frozen=True), whose fields are numbers, strings and tuples."
    try:
        hash(subject)
    except FAILURES as failed:
        yield error(f"{type(subject).__name__} cannot be hashed ({summary(failed)}).", why, remedy)
        return
    twin = attempt("__copy__", copy.copy, subject)
    for name in (*getattr(twin, "__dict__", {}), "horizon", "episodes"):
        try:
            setattr(twin, name, getattr(twin, name))
        except FAILURES:
            continue
        what = f"{type(subject).__name__} can be changed: `{name}` can be assigned to."
        yield error(what, why, remedy)
        return


def attributes(subject: Any) -> dict[str, str]:
    """The present values of its attributes, but for those of a `functools.cached_property`."""
    return {
        name: on_one_line(value)
        for name, value in getattr(subject, "__dict__", {}).items()
        if not isinstance(getattr(type(subject), name, None), cached_property)
    }


def keeps_no_state(before: dict[str, str], subject: Any, use: Callable[[], Any]) -> Problems:
    """Its attributes are what they were `before`, also after `use`, which calls its methods."""
    with suppress(Stop):
        use()
    after = attributes(subject)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield error(
                f"The attribute `{name}` changed while methods were called.",
                "Under jit that happens once, when the program is traced, and never again.",
                "Return what changes in the state, and take what varies as an argument.",
            )


def leaves_with_names(tree: PyTree, name: str) -> list[tuple[str, Any]]:
    """Every leaf with its name: `state`, `state['x']`, …"""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def all_arrays(tree: PyTree, name: str) -> Problems:
    """Every leaf is a JAX array."""
    for leaf_name, leaf in leaves_with_names(tree, name):
        if not isinstance(leaf, jax.Array):
            yield error(
                f"`{leaf_name}` is {describe(leaf)}, not a JAX array.",
                "Only arrays can be vmapped over, and carried through a compiled loop.",
                "Make it one with jnp.asarray, or make it an option.",
            )


def arrays(tree: PyTree) -> PyTree:
    """A tree without its functions and texts, which are no part of a checkpoint."""
    return eqx.filter(tree, lambda x: not callable(x) and not isinstance(x, str))


def same_form(old: PyTree, new: PyTree, name: str, why: str) -> Problems:
    """The arrays of `new` have the structure, shapes and dtypes of those of `old`."""
    remedy = "Give it one structure, with the same shapes and dtypes every time."
    old, new = arrays(old), arrays(new)
    was, now = jax.tree.structure(old), jax.tree.structure(new)
    if was != now:
        yield error(f"The structure of `{name}` changes from {was} to {now}.", why, remedy)
        return
    for (leaf_name, was), now in zip(leaves_with_names(old, name), jax.tree.leaves(new), strict=True):
        if (jnp.shape(was), _dtype(was)) != (jnp.shape(now), _dtype(now)):
            yield error(f"`{leaf_name}` changes from {describe(was)} to {describe(now)}.", why, remedy)


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else type(x)


def has_form(subject: str, x: Any, wanted: Array | jax.ShapeDtypeStruct, why: str, remedy: str) -> Problems:
    """`x` is an array of the shape and dtype of `wanted`."""
    if describe(x) != describe(wanted):
        yield error(f"{subject} {describe(x)}; it must be {describe(wanted)}.", why, remedy)


def same(a: PyTree, b: PyTree) -> bool:
    """Equal in structure and in every array; NaN equals NaN."""
    return _agree(
        a, b, lambda x, y: np.array_equal(x, y, equal_nan=bool(jnp.issubdtype(x.dtype, jnp.inexact)))
    )


def close(a: PyTree, b: PyTree) -> bool:
    """Equal but for rounding."""
    return _agree(a, b, lambda x, y: np.allclose(x, y, rtol=1e-3, atol=1e-4, equal_nan=True))


def _agree(a: PyTree, b: PyTree, compare: Callable[[np.ndarray, np.ndarray], bool]) -> bool:
    a, b = arrays(a), arrays(b)
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    numbers = ([np.asarray(without_key(x)) for x in pair] for pair in pairs)
    return all(x.shape == y.shape and compare(x, y) for x, y in numbers)


def finite(x: Any) -> bool:
    """Whether there is no NaN and no infinity in any leaf."""
    return all(bool(np.all(np.isfinite(np.asarray(leaf)))) for leaf in jax.tree.leaves(x))


def describe(x: Any) -> str:
    """A value's dtype and shape as one writes them: `float32[3]`; other things by their type."""
    if isinstance(x, jax.Array | jax.ShapeDtypeStruct):
        return f"{x.dtype}[{','.join(map(str, x.shape))}]"
    if isinstance(x, np.ndarray | np.generic):
        return f"a NumPy {x.dtype}[{','.join(map(str, x.shape))}]"
    return f"a Python {type(x).__name__}" if type(x).__module__ == "builtins" else f"a {type(x).__name__}"


def random_observations(space: ObservationSpace, key: Key, shape: tuple[int, ...]) -> Any:
    """Observations that are standard normal, or uniform where they are bytes or bits: shape `shape` + that of
    each part."""
    parts, structure = jax.tree.flatten(as_space(space))

    def one(part: jax.ShapeDtypeStruct, key: Key) -> jax.Array:
        if not jnp.issubdtype(part.dtype, jnp.floating):
            most = 2 if part.dtype == bool else 256
            return jax.random.randint(key, (*shape, *part.shape), 0, most).astype(part.dtype)
        return jax.random.normal(key, (*shape, *part.shape), part.dtype)

    keys = [key] if len(parts) == 1 else list(jax.random.split(key, len(parts)))
    return jax.tree.unflatten(structure, map(one, parts, keys))


def random_actions(space: ActionSpace, key: Key, shape: tuple[int, ...] = ()) -> jax.Array:
    """Actions that are standard normal, or uniform if discrete: shape `shape` + that of one action."""
    if isinstance(space, Continuous):
        return jax.random.normal(key, (*shape, space.size))
    counts = space.n if isinstance(space, Discrete) else jnp.array(space.counts)
    return jax.random.randint(key, (*shape, *space.shape), 0, counts, jnp.int32)
