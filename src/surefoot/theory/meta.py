"""Meta-learning as a transform of the objective.

`adapted(objective, inner)` is again an objective. Only `predict` changes: it takes the inner steps on each
task's support sets and then predicts on the query set. A rule that improves a policy on an objective
therefore meta-learns when it is given the adapted objective.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.theory.objectives import AbstractObjective, OnPart
from surefoot.types import Batch, MetaBatch

Split = Callable[[PyTree], tuple[PyTree, PyTree]]
"""From a policy to the part of it that the inner steps change, and the rest: `eqx.combine` makes the policy
of both."""


@runtime_checkable
class InnerRule(Protocol):
    """The methods of a rule that adaptation calls."""

    def init(self, policy: Any, /) -> Any: ...

    def step(self, objective: Any, policy: Any, batch: Any, state: Any, /) -> tuple[Any, Any, Any]: ...


def whole(policy: PyTree) -> tuple[PyTree, PyTree]:
    """The split of a policy of which the inner steps change every parameter."""
    return policy, jax.tree.map(lambda _: None, policy)


def inner_step(
    objective: AbstractObjective,
    inner: InnerRule,
    policy: PyTree,
    batch: PyTree,
    state: PyTree,
    *,
    first_order: bool = False,
    split: Split = whole,
) -> tuple[PyTree, PyTree]:
    """θ' = U(θ): one step of the inner rule on one task's support set, a `Batch` or other data that the
    objective takes; returns the new policy and rule state.

    The same function adapts a policy to sample from it and to differentiate through it, so the two cannot
    drift apart. With `first_order`, dθ'/dθ is taken to be the identity (FOMAML, Finn et al. 2017, sec. 5.2):
    the value is the same, and any rule will do, differentiable or not.
    """
    part, rest = split(policy)
    start = _stop_gradient(part) if first_order else part
    moved, state, _ = inner.step(OnPart(objective, rest), start, batch, state)
    if first_order:
        moved = jax.tree.map(_with_identity_slope, moved, part)
    return eqx.combine(moved, rest), state


def adapt(
    objective: AbstractObjective,
    inner: InnerRule,
    policy: PyTree,
    support: tuple[Batch, ...],
    *,
    first_order: bool = False,
    split: Split = whole,
) -> tuple[PyTree, ...]:
    """θ_0, …, θ_K: the policy before the inner steps and after each, one on each of `support`, all of one
    task."""
    policies, state = [policy], inner.init(split(policy)[0])
    for batch in support:
        policy, state = inner_step(
            objective, inner, policies[-1], batch, state, first_order=first_order, split=split
        )
        policies.append(policy)
    return tuple(policies)


class AdaptedPrediction(eqx.Module):
    """A policy's predictions in every phase of its adaptation, for each task: `[task ...]`."""

    support: tuple[PyTree, ...]
    """On the k-th support set by the policy after k steps; empty where no term asks for them."""
    query: PyTree
    """On the query set by the adapted policy."""


class AbstractTerm(eqx.Module):
    """A term that a meta-loss adds to the outer loss: a function of the predictions of every phase.

    The arrays in it may change from one iteration to the next. What it needs beside the batch is computed
    once for each meta-batch by `prepare`.
    """

    @abstractmethod
    def prepare(
        self, objective: "Adapted", policy: PyTree, batch: MetaBatch, returns: Float[Array, "task episode"]
    ) -> PyTree:
        """Constants of a meta-batch, every array with a leading task axis; `policy` drew the batch and
        `returns` are the discounted returns of the query's episodes."""

    @abstractmethod
    def __call__(
        self, outer: AbstractObjective, prediction: AdaptedPrediction, batch: MetaBatch, prepared: PyTree
    ) -> Float[Array, ""]:
        """The term of one task, to be minimised with the outer loss: no argument has a task axis."""

    @abstractmethod
    def update(
        self, objective: "Adapted", policy: PyTree, batch: MetaBatch, prepared: PyTree
    ) -> tuple["AbstractTerm", Mapping[str, Float[Array, ""]]]:
        """The term for the next iteration, and metrics, after the outer rule has made `policy` from the
        batch. `prepared` has a leading task axis."""

    def after(self, earlier: Any) -> "AbstractTerm":
        """The term of an iteration: `self` has the options, and `earlier` is what `update` made in the last
        one. By default `earlier`; a term with options takes those from `self`."""
        return earlier


class AbstractMetaObjective(AbstractObjective):
    """An objective over the tasks of a `MetaBatch`, which may have constants of each batch and a state."""

    @abstractmethod
    def prepare(
        self, policy: PyTree, batch: MetaBatch, returns: Float[Array, "task episode"]
    ) -> dict[str, PyTree]:
        """The batch's `prepared`: constants by name, every array with a leading task axis. `policy` drew the
        batch and `returns` are the discounted returns of the query's episodes."""

    @abstractmethod
    def update(
        self, policy: PyTree, batch: MetaBatch
    ) -> tuple[dict[str, AbstractTerm], Mapping[str, Float[Array, ""]]]:
        """The terms for the next iteration, and metrics, after the outer rule has made `policy` from the
        batch."""


class Adapted(AbstractMetaObjective):
    """The mean over tasks of `outer`, at the policy that has adapted to each task by minimising `inner`, plus
    the mean of each term."""

    outer: AbstractObjective
    inner_objective: AbstractObjective
    terms: dict[str, AbstractTerm]
    inner: InnerRule = eqx.field(static=True)
    first_order: bool = eqx.field(static=True)
    chunk: int = eqx.field(static=True)
    """Number of tasks computed at a time; all memory but that of the data is in proportion to it."""
    split: Split = eqx.field(static=True)

    def predict(self, policy: PyTree, batch: MetaBatch) -> AdaptedPrediction:
        """The predictions of every phase, with a leading task axis."""

        return map_tasks(lambda task: self._predict_task(policy, task), batch, self.chunk)

    def _predict_task(self, policy: PyTree, task: MetaBatch) -> AdaptedPrediction:
        options = {"first_order": self.first_order, "split": self.split}
        *before, last = adapt(self.inner_objective, self.inner, policy, task.support, **options)
        pairs = zip(before, task.support, strict=True) if self.terms else ()
        support = tuple(self.inner_objective.predict(*pair) for pair in pairs)
        return AdaptedPrediction(support, self.outer.predict(last, task.query))

    def loss(self, prediction: AdaptedPrediction, batch: MetaBatch) -> Float[Array, ""]:
        loss = jnp.mean(jax.vmap(self.outer.loss)(prediction.query, batch.query))
        for name, term in self.terms.items():
            each = jax.vmap(lambda *task, term=term: term(self.outer, *task))
            loss += jnp.mean(each(prediction, batch, batch.prepared[name]))
        return loss

    def divergence(
        self, old: AdaptedPrediction, new: AdaptedPrediction, batch: MetaBatch
    ) -> Float[Array, ""]:
        """The divergence of the adapted policies on the query sets."""
        return jnp.mean(jax.vmap(self.outer.divergence)(old.query, new.query, batch.query))

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        """Chunks of tasks one after another, so that a chunk's intermediate results stay in the cache."""
        return average_tasks(f, batch, self.chunk)

    def clipped(self, epsilon: float) -> "Adapted":
        """Clips the ratio after adaptation; inner steps and terms stay as they are."""
        return eqx.tree_at(lambda o: o.outer, self, self.outer.clipped(epsilon))

    def prepare(
        self, policy: PyTree, batch: MetaBatch, returns: Float[Array, "task episode"]
    ) -> dict[str, PyTree]:
        return {name: term.prepare(self, policy, batch, returns) for name, term in self.terms.items()}

    def update(
        self, policy: PyTree, batch: MetaBatch
    ) -> tuple[dict[str, AbstractTerm], Mapping[str, Float[Array, ""]]]:
        terms, metrics = {}, {}
        for name, term in self.terms.items():
            terms[name], seen = term.update(self, policy, batch, batch.prepared[name])
            metrics |= seen
        return terms, metrics


def adapted(
    objective: AbstractObjective,
    inner: InnerRule,
    *,
    inner_objective: AbstractObjective | None = None,
    first_order: bool = False,
    chunk: int = 1,
    terms: dict[str, AbstractTerm] | None = None,
    split: Split = whole,
) -> Adapted:
    """`objective` at the policy adapted by `inner`, averaged over the tasks of a `MetaBatch`.

    The inner steps minimise `inner_objective`, or `objective` itself, over the part of the policy that
    `split` selects. MAML (Finn et al., 2017) is a gradient step inside; second-order terms come from
    differentiating through it. Each term finds its constants in the batch's `prepared`, under its name.
    """
    return Adapted(objective, inner_objective or objective, terms or {}, inner, first_order, chunk, split)


def map_tasks(f: Callable[[Any], PyTree], batch: PyTree, chunk: int) -> PyTree:
    """`f` of each task, along the leading axis of all arrays, `chunk` tasks at a time."""
    whole, rest = divmod(_length(batch), chunk)
    if whole + (rest > 0) <= 1:
        return jax.vmap(f)(batch)
    parts = jax.lax.map(lambda k: jax.vmap(f)(_tasks(batch, k, chunk, chunk)), jnp.arange(whole))
    results = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
    if rest:
        tail = jax.vmap(f)(_tasks(batch, whole, chunk, rest))
        results = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), results, tail)
    return results


def average_tasks(f: Callable[[Any], PyTree], batch: PyTree, chunk: int) -> PyTree:
    """`f(batch)`, where `f` is a mean over tasks, from `chunk` tasks at a time."""
    tasks = _length(batch)
    whole, rest = divmod(tasks, chunk)
    if whole + (rest > 0) <= 1:
        return f(batch)

    def accumulate(total: PyTree, k: Array) -> tuple[PyTree, None]:
        value = f(_tasks(batch, k, chunk, chunk))
        return jax.tree.map(lambda t, y: t + chunk / tasks * y, total, value), None

    shapes = jax.eval_shape(lambda: f(_tasks(batch, 0, chunk, chunk)))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(accumulate, zero, jnp.arange(whole))
    if rest:
        tail = f(_tasks(batch, whole, chunk, rest))
        total = jax.tree.map(lambda t, y: t + rest / tasks * y, total, tail)
    return total


def _tasks(batch: PyTree, k: Array | int, chunk: int, count: int) -> PyTree:
    """The first `count` tasks of the k-th chunk, as a slice: the compiler copies all the data where it is
    reshaped into chunks."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, k * chunk, count), batch)


def _length(batch: PyTree) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _stop_gradient(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, tree)


def _with_identity_slope(value: Any, through: Any) -> Any:
    """`value`, with the derivative of `through`."""
    if not eqx.is_inexact_array(value):
        return value
    return jax.lax.stop_gradient(value) + (through - jax.lax.stop_gradient(through))
