"""Tasks of a user's own Gymnasium environment, which its class draws on the host."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree, UInt32

from surefoot.envs.gymnasium_simulator import seed_of
from surefoot.options import UserError
from surefoot.types import Key, Task


def has_tasks(cls: type) -> bool:
    """Whether there are tasks to tell apart."""
    return hasattr(cls, "sample_tasks")


def drawn(cls: Any, key: Key, n: int) -> Task:
    """n tasks, also within a compiled program, which then calls back. Raises `UserError` if the class's own
    `sample_tasks` fails or gives something else."""
    form = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), _form(cls))

    def on_the_host(words: UInt32[Array, " words"]) -> PyTree:
        return _tasks(cls, seed_of(np.asarray(words)), n, form)

    words = jax.random.key_data(key)
    if isinstance(key, Tracer):
        return jax.pure_callback(on_the_host, form, words, vmap_method="sequential")
    return jax.tree.map(jnp.asarray, on_the_host(words))


@lru_cache
def _form(cls: Any) -> PyTree:
    """A task's arrays, with an axis of one."""
    one = _asked(cls, 0, 1)
    wanted = jax.tree.map(lambda x: jax.dtypes.canonicalize_dtype(np.asarray(x).dtype), one)
    form = jax.tree.map(lambda x, dtype: jax.ShapeDtypeStruct(np.shape(x), dtype), one, wanted)
    if not all(x.shape[:1] == (1,) for x in jax.tree.leaves(form)) or not jax.tree.leaves(form):
        raise UserError(_wrong_tasks(cls, 0, 1, one))
    return form


def _tasks(cls: Any, seed: int, n: int, form: PyTree) -> PyTree:
    tasks = _asked(cls, seed, n)
    same = jax.tree.structure(tasks) == jax.tree.structure(form)
    if not same or not all(jax.tree.leaves(jax.tree.map(lambda x, f: np.shape(x) == f.shape, tasks, form))):
        raise UserError(_wrong_tasks(cls, seed, n, tasks))
    return jax.tree.map(lambda x, f: np.asarray(x, f.dtype), tasks, form)


def _asked(cls: Any, seed: int, n: int) -> PyTree:
    try:
        return cls.sample_tasks(seed, n)
    except Exception as error:
        raise UserError(
            f"{cls.__name__}.sample_tasks({seed}, {n}) raised {type(error).__name__}: {error}. It must "
            "be a static method of a seed and a number of tasks."
        ) from error


def _wrong_tasks(cls: type, seed: int, n: int, tasks: PyTree) -> str:
    given = jax.tree.map(np.shape, tasks)
    return (
        f"{cls.__name__}.sample_tasks({seed}, {n}) gave arrays of the shapes {given}; each must have "
        f"a leading axis of {n}, and otherwise the same shape for every seed."
    )
