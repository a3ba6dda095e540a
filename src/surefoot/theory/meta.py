"""Meta-learning as a transform of the objective.

`adapted(objective, inner)` is again an objective. Only `predict` changes: take the inner steps on each task's
support sets, then predict on its query set. Whatever improves a policy on an objective therefore meta-learns
when it is handed the adapted one; nothing else in the library knows the difference.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.theory.objectives import AbstractObjective
from surefoot.types import Batch, MetaBatch


@runtime_checkable
class InnerRule(Protocol):
    """What adaptation asks of a rule."""

    def init(self, policy: Any, /) -> Any: ...

    def step(self, objective: Any, policy: Any, batch: Any, state: Any, /) -> tuple[Any, Any, Any]: ...


def inner_step(
    objective: AbstractObjective,
    inner: InnerRule,
    policy: PyTree,
    batch: Batch,
    state: PyTree,
    *,
    first_order: bool = False,
) -> tuple[PyTree, PyTree]:
    """θ' = U(θ): one step of the inner rule on one task's support set; returns the new policy and rule state.

    The same function adapts a policy to sample from it and to differentiate through it, so the two cannot
    drift apart. With `first_order`, dθ'/dθ is taken to be the identity (FOMAML, Finn et al. 2017, sec. 5.2):
    the value is the same, and any rule will do, differentiable or not.
    """
    if not first_order:
        policy, state, _ = inner.step(objective, policy, batch, state)
        return policy, state
    constant, state, _ = inner.step(objective, _stop_gradient(policy), batch, state)
    return jax.tree.map(_with_identity_slope, constant, policy), state


def adapt(
    objective: AbstractObjective,
    inner: InnerRule,
    policy: PyTree,
    support: tuple[Batch, ...],
    *,
    first_order: bool = False,
) -> PyTree:
    """The policy after one inner step on each of `support` in turn, all of one task."""
    state = inner.init(policy)
    for batch in support:
        policy, state = inner_step(objective, inner, policy, batch, state, first_order=first_order)
    return policy


class Adapted(AbstractObjective):
    """The mean over tasks of `outer`, at the policy that has adapted to each task by minimising `inner`."""

    outer: AbstractObjective
    inner_objective: AbstractObjective
    inner: InnerRule = eqx.field(static=True)
    first_order: bool = eqx.field(static=True)
    chunk: int = eqx.field(static=True)
    """How many tasks are worked on at a time; all memory but that of the data is in proportion to it."""

    def predict(self, policy: PyTree, batch: MetaBatch) -> PyTree:
        """The adapted policies' predictions, with a leading task axis."""

        def on_task(task: MetaBatch) -> PyTree:
            policy_of_task = adapt(
                self.inner_objective, self.inner, policy, task.support, first_order=self.first_order
            )
            return self.outer.predict(policy_of_task, task.query)

        whole, rest = divmod(_length(batch), self.chunk)
        if whole + (rest > 0) <= 1:
            return jax.vmap(on_task)(batch)
        parts = jax.lax.map(lambda k: jax.vmap(on_task)(self._tasks(batch, k, self.chunk)), jnp.arange(whole))
        prediction = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
        if rest:
            tail = jax.vmap(on_task)(self._tasks(batch, whole, rest))
            prediction = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), prediction, tail)
        return prediction

    def loss(self, prediction: PyTree, batch: MetaBatch) -> Float[Array, ""]:
        return jnp.mean(jax.vmap(self.outer.loss)(prediction, batch.query))

    def divergence(self, old: PyTree, new: PyTree, batch: MetaBatch) -> Float[Array, ""]:
        return jnp.mean(jax.vmap(self.outer.divergence)(old, new, batch.query))

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        """Chunks of tasks one after another, so that a chunk's intermediate results stay in the cache."""
        tasks = _length(batch)
        whole, rest = divmod(tasks, self.chunk)
        if whole + (rest > 0) <= 1:
            return f(batch)

        def accumulate(total: PyTree, k: Array) -> tuple[PyTree, None]:
            value = f(self._tasks(batch, k, self.chunk))
            return jax.tree.map(lambda t, y: t + self.chunk / tasks * y, total, value), None

        shapes = jax.eval_shape(lambda: f(self._tasks(batch, 0, self.chunk)))
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(accumulate, zero, jnp.arange(whole))
        if rest:
            tail = f(self._tasks(batch, whole, rest))
            total = jax.tree.map(lambda t, y: t + rest / tasks * y, total, tail)
        return total

    def clipped(self, epsilon: float) -> "Adapted":
        """Clips the ratio after adaptation; the inner steps stay as they are."""
        return eqx.tree_at(lambda o: o.outer, self, self.outer.clipped(epsilon))

    def _tasks(self, batch: PyTree, k: Array | int, count: int) -> PyTree:
        """The first `count` tasks of the k-th chunk, as a slice: the compiler copies all the data where it is
        reshaped into chunks."""
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, k * self.chunk, count), batch)


def adapted(
    objective: AbstractObjective,
    inner: InnerRule,
    *,
    inner_objective: AbstractObjective | None = None,
    first_order: bool = False,
    chunk: int = 1,
) -> Adapted:
    """`objective` at the policy adapted by `inner`, averaged over the tasks of a `MetaBatch`.

    The inner steps minimise `inner_objective`, or `objective` itself. MAML (Finn et al., 2017) is a gradient
    step inside; second-order terms come from differentiating through it.
    """
    return Adapted(objective, inner_objective or objective, inner, first_order, chunk)


def _length(batch: PyTree) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _stop_gradient(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, tree)


def _with_identity_slope(value: Any, through: Any) -> Any:
    """`value`, with the derivative of `through`."""
    if not eqx.is_inexact_array(value):
        return value
    return jax.lax.stop_gradient(value) + (through - jax.lax.stop_gradient(through))
