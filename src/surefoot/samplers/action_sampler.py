"""Actions for observations on the host: one compiled evaluation of the policies a step."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree, UInt32

from surefoot.policies.base import AbstractPolicy, act, initial_memory
from surefoot.types import Keys, Observations, where_rows

_BLOCK = 32
"""Steps whose noise is drawn at once: hashing keys one by one takes longer than evaluating a small policy."""


class ActionSampler:
    """Samples the actions of many episodes. Row i belongs to task i // (episodes of a task).

    The noise of an action depends only on its row's key and the step's number.
    """

    def __init__(
        self,
        policies: AbstractPolicy,
        keys: UInt32[Array | np.ndarray, "task episode words"],
        memory: PyTree = None,
    ) -> None:
        """`policies` have a leading axis of tasks; `keys` are raw; `memory` has the axes `[task episode
        ...]`, and if it is None every episode is at its beginning."""
        arrays, static = eqx.partition(policies, eqx.is_array)
        # Once, because flattening a module takes as long as evaluating a small one.
        self._arrays, structure = jax.tree.flatten(arrays)
        self._act, self._draw, self._fresh = _compiled(*_hashable(static), structure)
        self._keys = jnp.asarray(keys)
        self._noise: tuple[Array, ...] = ()
        self._first = -_BLOCK
        self.memory = self._fresh(self._arrays, self._keys) if memory is None else memory

    def act(self, observations: Observations, step: int) -> tuple[Array, Array]:
        """An action of every row, axes `[row ...]`, and its log-probability, axes `[row]`. JAX may still
        compute them after the call: the observations must not be changed before the result is read."""
        place = step % _BLOCK
        if step - place != self._first:
            self._first = step - place
            self._noise = self._draw(self._arrays, self._keys, self.memory, observations, self._first)
        actions, log_probs, self.memory = self._act(
            self._arrays, self._noise[place], self.memory, observations
        )
        return actions, log_probs

    def forget(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """These rows begin a new episode."""
        fresh = self._fresh(self._arrays, self._keys)
        self.memory = where_rows(rows.reshape(self._keys.shape[:2]), fresh, self.memory)


def _hashable(static: AbstractPolicy) -> tuple[tuple[Any, ...], Any]:
    """The leaves and the structure: a module that holds a dictionary has no hash itself."""
    leaves, structure = jax.tree.flatten(static)
    return tuple(leaves), structure


@lru_cache
def _compiled(leaves: tuple[Any, ...], rest: Any, structure: Any) -> tuple[Any, Any, Any]:
    """The compiled functions of policies of one structure: actions, noise, first memory. They are kept, since
    comparing two modules takes as long as evaluating them."""
    static = jax.tree.unflatten(rest, leaves)

    def of_tasks(arrays: list[Array], each: Callable[..., Any], *rows: Any) -> Any:
        """`each(policy, *rows)` for every task."""

        def of_task(arrays: list[Array], *rows: Any) -> Any:
            return each(eqx.combine(jax.tree.unflatten(structure, arrays), static), *rows)

        return jax.vmap(of_task)(arrays, *rows)

    def predict(arrays: list[Array], memory: PyTree, observations: Observations) -> Any:
        """The action distributions and new memories of all rows, axes `[task episode ...]`."""

        def of_rows(policy: AbstractPolicy, observations: Observations, memory: PyTree) -> Any:
            return jax.vmap(lambda *one: act(policy, *one))(observations, memory)

        return of_tasks(arrays, of_rows, observations, memory)

    @jax.jit
    def act_all(
        arrays: list[Array], noise: Array, memory: PyTree, observations: Observations
    ) -> tuple[Array, Array, PyTree]:
        tasks, episodes = noise.shape[:2]
        distributions, memory = predict(arrays, memory, _divided(observations, tasks, episodes))
        actions = distributions.sample_from(noise)
        log_probs = distributions.log_prob(actions)
        rows = tasks * episodes
        return actions.reshape(rows, *actions.shape[2:]), log_probs.reshape(rows), memory

    @jax.jit
    def draw(
        arrays: list[Array], keys: Array, memory: PyTree, observations: Observations, first: Array
    ) -> tuple[Array, ...]:
        """The noise of each step of a block, axes `[task episode ...]`. The distributions are not computed:
        only their shapes are used."""
        rows = _divided(observations, *keys.shape[:2])
        distributions, _ = jax.eval_shape(predict, arrays, memory, rows)
        one = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), distributions)

        def of_row(step: Array, key: Keys) -> Array:
            return one.noise(jax.random.fold_in(key, step))

        of_all = jax.vmap(jax.vmap(jax.vmap(of_row, (None, 0)), (None, 0)), (0, None))
        return tuple(of_all(first + jnp.arange(_BLOCK), jax.random.wrap_key_data(keys)))

    @jax.jit
    def fresh(arrays: list[Array], keys: Array) -> PyTree:
        memory = of_tasks(arrays, initial_memory)
        return jax.tree.map(lambda x: jnp.repeat(x[:, None], keys.shape[1], axis=1), memory)

    return act_all, draw, fresh


def _divided(rows: Observations, tasks: int, episodes: int) -> Observations:
    """The rows as `[task episode ...]`."""
    return jax.tree.map(lambda x: x.reshape(tasks, episodes, *x.shape[1:]), rows)
