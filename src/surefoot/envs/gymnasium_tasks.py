"""Tasks of a user's own Gymnasium environment, which its class samples on the host."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree, UInt32

from surefoot.envs.gymnasium_simulator import seed_of
from surefoot.loading import FAILURES, told
from surefoot.options import UserError, shown
from surefoot.types import Key, Task


def sample_tasks(cls: Any, key: Key, n: int) -> Task:
    """n tasks of a class that has the method `sample_tasks`, by a callback where the key is traced. Raises
    `UserError` if the method fails, or does not return arrays of the right shape."""
    form = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), _one_task(cls))

    def on_host(words: UInt32[Array, " words"]) -> PyTree:
        seed = seed_of(np.asarray(words))
        tasks = _call(cls, seed, n)
        leaves, expected = jax.tree.leaves(tasks), jax.tree.leaves(form)
        same_structure = jax.tree.structure(tasks) == jax.tree.structure(form)
        if not same_structure or any(np.shape(x) != f.shape for x, f in zip(leaves, expected, strict=True)):
            raise _wrong_shapes(cls, seed, n, tasks)
        arrays = jax.tree.map(lambda x, f: np.asarray(x, f.dtype), tasks, form)
        for x, taken in zip(leaves, jax.tree.leaves(arrays), strict=True):
            if taken.dtype.kind in "biu" and not np.array_equal(x, taken):
                raise UserError(
                    f"{cls.__name__}.sample_tasks({seed}, {n}) gave {shown(x)}, and sample_tasks(0, 1) gave "
                    f"numbers of the type {taken.dtype}, which cannot hold them. Return one type for every "
                    "seed: np.asarray(tasks, np.float32)."
                )
        return arrays

    words = jax.random.key_data(key)
    if isinstance(key, Tracer):
        return jax.pure_callback(on_host, form, words, vmap_method="sequential")
    return jax.tree.map(jnp.asarray, on_host(words))


@lru_cache
def _one_task(cls: Any) -> PyTree:
    """The shapes and dtypes of one task's arrays, with a leading axis of one."""
    # The first call may be within a traced function, and the method may compute with JAX.
    with jax.ensure_compile_time_eval():
        task = _call(cls, 0, 1)
    try:
        arrays = jax.tree.map(np.asarray, task)
    except FAILURES as error:
        raise _not_numbers(cls, task) from error
    if any(x.dtype.kind not in "biuf" for x in jax.tree.leaves(arrays)):
        raise _not_numbers(cls, task)
    if not jax.tree.leaves(task) or any(x.shape[:1] != (1,) for x in jax.tree.leaves(arrays)):
        raise _wrong_shapes(cls, 0, 1, task)
    dtype = jax.dtypes.canonicalize_dtype
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype(x.dtype)), arrays)


def _call(cls: Any, seed: int, n: int) -> PyTree:
    try:
        return cls.sample_tasks(seed, n)
    except FAILURES as error:
        raise UserError(
            f"{cls.__name__}.sample_tasks({seed}, {n}) raised {told(error)}. It must "
            "be a static method of a seed and a number of tasks."
        ) from error


def _not_numbers(cls: type, task: Any) -> UserError:
    return UserError(
        f"{cls.__name__}.sample_tasks(0, 1) gave {shown(task)}; tasks are arrays of numbers, or a pytree of "
        "them. Number the tasks, and let `reset` look up what a number means."
    )


def _wrong_shapes(cls: type, seed: int, n: int, tasks: PyTree) -> UserError:
    shapes = jax.tree.map(np.shape, tasks)
    return UserError(
        f"{cls.__name__}.sample_tasks({seed}, {n}) gave arrays of the shapes {shapes}; "
        f"each must have a leading axis of {n}, and otherwise the same shape for every seed."
    )
