"""What the library never forms: flat parameter vectors, dense matrices, finite differences."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from surefoot.theory.fisher import fisher_vector_product
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.types import is_key

gradient_of = eqx.filter_jit(loss_and_gradient)


@eqx.filter_jit
def compared(objective: AbstractObjective, old: PyTree, new: PyTree, batch: PyTree) -> tuple[Array, ...]:
    """The losses of two policies, and the divergence of the second from the first."""
    before, now = (objective.predict(policy, batch) for policy in (old, new))
    return objective.loss(before, batch), objective.loss(now, batch), objective.divergence(before, now, batch)


def flatten(policy: PyTree) -> tuple[Array, Callable[[Array], Any]]:
    """The parameters as one vector, and the way back from a vector to a policy."""
    parameters, static = eqx.partition(policy, eqx.is_inexact_array)
    vector, unravel = ravel_pytree(parameters)
    return vector, lambda v: eqx.combine(unravel(v), static)


def ravel(tree: PyTree) -> Array:
    return ravel_pytree(eqx.filter(tree, eqx.is_inexact_array))[0]


@eqx.filter_jit
def kl_hessian(objective: AbstractObjective, policy: PyTree, batch: PyTree) -> Array:
    """The Hessian of KL(old ‖ ·) in the parameters, by differentiating twice."""
    vector, build = flatten(policy)
    old = objective.predict(policy, batch)
    return jax.hessian(lambda v: objective.divergence(old, objective.predict(build(v), batch), batch))(vector)


@eqx.filter_jit
def fisher_matrix(objective: AbstractObjective, policy: PyTree, batch: PyTree) -> Array:
    """The matrix whose products `fisher_vector_product` gives, column by column."""
    vector, build = flatten(policy)

    def column(basis: Array) -> Array:
        direction = eqx.filter(build(basis), eqx.is_inexact_array)
        return ravel(fisher_vector_product(objective, policy, batch, direction))

    return jax.vmap(column)(jnp.eye(len(vector), dtype=vector.dtype)).T


def value_and_central_difference(
    f: Callable[[Array], Array], at: Array, step: float = 1e-5
) -> tuple[np.ndarray, np.ndarray]:
    """The value of a scalar function, and its gradient, one coordinate at a time; its error is of the order
    step²."""
    moves = step * np.eye(len(at))
    values = np.asarray(jax.jit(jax.vmap(f))(np.concatenate([at[None], at + moves, at - moves])))
    above, below = np.split(values[1:], 2)
    return values[0], (above - below) / (2 * step)


def numbers(x: Any) -> np.ndarray:
    """An array as NumPy's, a random key as the words it is made of."""
    return np.asarray(jax.random.key_data(x) if is_key(x) else x)


def leaves(tree: PyTree) -> list[np.ndarray]:
    """All of a tree's."""
    return [numbers(x) for x in jax.tree.leaves(tree)]


def assert_same(a: PyTree, b: PyTree) -> None:
    """Two trees of arrays agree to the last bit, NaNs included."""
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def identical(a: PyTree, b: PyTree) -> bool:
    """Whether they do."""
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=np.issubdtype(x.dtype, np.inexact)) for x, y in pairs)
