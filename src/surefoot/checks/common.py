"""What the kits share: comparing trees of arrays, and what every part of the library must be."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from surefoot.checks.failure import attempt, summary
from surefoot.checks.problem import Problem, error
from surefoot.types import ActionSpace, Continuous, Key, is_key


def is_instance(subject: Any, kind: str) -> Iterator[Problem]:
    """Not a class."""
    if isinstance(subject, type):
        yield error(
            f"{subject.__name__} is a class, not {kind}.",
            "Its options are chosen when it is built.",
            f"Pass an instance: {subject.__name__}(...).",
        )


def has_methods(subject: Any, names: Sequence[str], contract: str) -> Iterator[Problem]:
    """Every method is there and can be called."""
    for name in names:
        if not callable(getattr(subject, name, None)):
            yield error(
                f"`{name}` is missing, or is not a method.",
                "The rest of the library calls it.",
                f"Define it as {contract} describes it.",
            )


def is_immutable(subject: Any) -> Iterator[Problem]:
    """Hashable, and its attributes cannot be assigned to."""
    why = "It is a constant of compiled programs, which are found again by its hash and never see it change."
    remedy = "Make it a dataclass with @dataclass(frozen=True), whose fields are numbers, strings and tuples."
    try:
        hash(subject)
    except Exception as failed:
        yield error(f"{type(subject).__name__} cannot be hashed ({summary(failed)}).", why, remedy)
        return
    name = _assignable(subject)
    if name is not None:
        yield error(f"{type(subject).__name__} can be changed: `{name}` can be assigned to.", why, remedy)


def _assignable(subject: Any) -> str | None:
    twin = attempt("__copy__", copy.copy, subject)
    for name in (*getattr(twin, "__dict__", {}), "horizon", "episodes"):
        try:
            setattr(twin, name, getattr(twin, name))
        except Exception:
            continue
        return name
    return None


def attributes(subject: Any) -> dict[str, str]:
    """What its attributes are now; what `functools.cached_property` fills in is left out."""
    stored = getattr(subject, "__dict__", {})
    cached = {name for name in stored if _is_cached(type(subject), name)}
    return {name: _repr(value) for name, value in stored.items() if name not in cached}


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


def _is_cached(kind: type, name: str) -> bool:
    return type(getattr(kind, name, None)).__name__ == "cached_property"


def keeps_no_state(before: dict[str, str], subject: Any) -> Iterator[Problem]:
    """Its attributes are still what they were `before`."""
    after = attributes(subject)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield error(
                f"The attribute `{name}` changed while methods were called.",
                "Under jit that happens once, when the program is traced, and never again.",
                "Return what changes in the state, and take what varies as an argument.",
            )


def leaves_with_names(tree: PyTree, name: str) -> list[tuple[str, Any]]:
    """Every leaf, and what to call it: `state`, `state['x']`, …"""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def all_arrays(tree: PyTree, name: str) -> Iterator[Problem]:
    """Every leaf is a JAX array."""
    for leaf_name, leaf in leaves_with_names(tree, name):
        if not isinstance(leaf, jax.Array):
            yield error(
                f"`{leaf_name}` is {describe(leaf)}, not a JAX array.",
                "Only arrays can be vmapped over, and carried through a compiled loop.",
                "Make it one with jnp.asarray, or make it an option.",
            )


def same_form(old: PyTree, new: PyTree, name: str, why: str) -> Iterator[Problem]:
    """`new` has the structure, shapes and dtypes of `old`."""
    before, after = leaves_with_names(old, name), leaves_with_names(new, name)
    remedy = "Give it one structure, with the same shapes and dtypes every time."
    if jax.tree.structure(old) != jax.tree.structure(new):
        was, now = jax.tree.structure(old), jax.tree.structure(new)
        yield error(f"The structure of `{name}` changes from {was} to {now}.", why, remedy)
        return
    for (leaf_name, was), (_, now) in zip(before, after, strict=True):
        if (jnp.shape(was), _dtype(was)) != (jnp.shape(now), _dtype(now)):
            yield error(f"`{leaf_name}` changes from {describe(was)} to {describe(now)}.", why, remedy)


def same(a: PyTree, b: PyTree) -> bool:
    """Equal in structure and in every value; NaN equals NaN."""
    return _agree(a, b, np.array_equal)


def close(a: PyTree, b: PyTree) -> bool:
    """Equal but for rounding."""
    return _agree(a, b, lambda x, y: np.allclose(x, y, rtol=1e-3, atol=1e-4))


def _agree(a: PyTree, b: PyTree, compare: Callable[[np.ndarray, np.ndarray], bool]) -> bool:
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(map(_numbers, jax.tree.leaves(a)), map(_numbers, jax.tree.leaves(b)), strict=True)
    return all(x.shape == y.shape and compare(x, y) for x, y in pairs)


def _numbers(leaf: Any) -> np.ndarray:
    """As NumPy holds it, NaN made comparable."""
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return np.asarray(np.nan_to_num(array.astype(np.float64), nan=-1.25e300)) if floating else array


def finite(x: Any) -> bool:
    """No NaN and no infinity in any leaf."""
    return all(bool(np.all(np.isfinite(np.asarray(leaf)))) for leaf in jax.tree.leaves(x))


def describe(x: Any) -> str:
    """A value's dtype and shape as one writes them: `float32[3]`; other things by their type."""
    if isinstance(x, jax.Array | jax.ShapeDtypeStruct):
        return f"{x.dtype}[{','.join(map(str, x.shape))}]"
    if isinstance(x, np.ndarray | np.generic):
        return f"a NumPy {x.dtype}[{','.join(map(str, x.shape))}]"
    return f"a Python {type(x).__name__}"


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else type(x)


def random_actions(space: ActionSpace, key: Key, shape: tuple[int, ...] = ()) -> jax.Array:
    """Standard normal, or uniform: shape `shape` + that of one action."""
    if isinstance(space, Continuous):
        return jax.random.normal(key, (*shape, space.size))
    return jax.random.randint(key, shape, 0, space.n, jnp.int32)
