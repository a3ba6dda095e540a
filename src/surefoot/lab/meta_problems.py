"""Two small tasks whose return after adaptation is known exactly, with all its derivatives."""

from collections.abc import Callable
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.lab.exact import all_trajectories, solve
from surefoot.lab.problems import Episodes, Problem, SoftmaxTable, chain
from surefoot.rules import GradientStep
from surefoot.theory.meta import inner_step
from surefoot.theory.objectives import AbstractObjective
from surefoot.theory.returns import reward_to_go
from surefoot.types import Batch, Transitions

Vector = Float[Array, " parameters"]


class Tasks(eqx.Module):
    """Tasks with the same dynamics, and the inner steps that adapt a softmax policy to each."""

    problems: Problem
    """Every array has a leading task axis."""
    episodes: Episodes
    """Every possible episode of each task, `[task n time]`."""
    chances: Float[Array, "task n"]
    """The environment's part of an episode's probability, P(s_0) Π_t P(s_{t+1}|s_t, a_t)."""
    lr: float = eqx.field(static=True)
    """α of the inner step θ' = θ + α ∇J(θ)/T: the gradient of a mean over the T steps."""

    @property
    def horizon(self) -> int:
        """T."""
        assert self.problems.horizon is not None
        return self.problems.horizon

    @property
    def inner(self) -> GradientStep:
        """The rule of the inner steps."""
        return GradientStep(lr=self.lr)

    def mean(self, f: Callable[["Tasks"], PyTree]) -> PyTree:
        """The mean over tasks of a function of one of them, whose arrays lack the task axis."""
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.vmap(f)(self))


def two_chains(horizon: int, lr: float) -> Tasks:
    """The chain of three states, and the same with the rewards of its two ends exchanged. No discount."""
    right = chain(horizon, discount=1.0)
    left = eqx.tree_at(lambda p: p.mdp.rewards, right, right.mdp.rewards[::-1, ::-1])
    uniform = SoftmaxTable(jnp.zeros(right.mdp.rewards.shape))
    listed = [all_trajectories(problem, uniform) for problem in (right, left)]
    tasks = [
        (problem, episodes, chances * problem.actions**horizon)
        for problem, (episodes, chances) in zip((right, left), listed, strict=True)
    ]
    problems, episodes, chances = jax.tree.map(lambda *x: jnp.stack(x), *tasks)
    return Tasks(problems, episodes, chances, lr)


def table(vector: Vector, problem: Problem) -> SoftmaxTable:
    """The policy with these parameters, for one problem or several of one size."""
    return SoftmaxTable(vector.reshape(problem.mdp.rewards.shape[-2:]))


def expected_return(problem: Problem, vector: Vector) -> Float[Array, ""]:
    """J(θ)."""
    return solve(problem, table(vector, problem).probabilities).value


def adapted_parameters(task: Tasks, vector: Vector, steps: int) -> Vector:
    """θ_K of one task after steps along the exact gradient, θ_{k+1} = θ_k + α ∇J(θ_k)/T."""
    for _ in range(steps):
        vector = vector + task.lr / task.horizon * jax.grad(expected_return, 1)(task.problems, vector)
    return vector


def meta_objective(tasks: Tasks, vector: Vector, steps: int) -> Float[Array, ""]:
    """M(θ): the mean over tasks of J(θ_K), the return after K steps along the exact gradient."""

    def of_task(task: Tasks) -> Float[Array, ""]:
        return expected_return(task.problems, adapted_parameters(task, vector, steps))

    return tasks.mean(of_task)


@eqx.filter_jit
def meta_gradient(tasks: Tasks, vector: Vector, steps: int) -> Vector:
    """∇M, by differentiating the exact values."""
    return jax.grad(lambda v: meta_objective(tasks, v, steps))(vector)


@eqx.filter_jit
def chain_rule_gradient(tasks: Tasks, vector: Vector, steps: int) -> Vector:
    """∇M = mean Π_k (I + (α/T) ∇²J(θ_k)) ∇J(θ_K), from exact Hessians."""

    def of_task(task: Tasks) -> Vector:
        points = [adapted_parameters(task, vector, k) for k in range(steps + 1)]
        gradient = jax.grad(expected_return, 1)(task.problems, points[-1])
        for point in reversed(points[:-1]):
            hessian = jax.hessian(expected_return, 1)(task.problems, point)
            gradient = gradient + task.lr / task.horizon * hessian @ gradient
        return gradient

    return tasks.mean(of_task)


def batch_of(
    problem: Problem, vector: Vector, episodes: Episodes, values: Float[Array, "time states"]
) -> Batch:
    """The batch of one task's episodes of the policy `vector`: rewards-to-go, less the baseline `values`."""
    observations = problem.observations[episodes.states]
    to_go = jax.vmap(reward_to_go, (0, None))(episodes.rewards, problem.discounts)
    baseline = values[jnp.arange(episodes.states.shape[1]), episodes.states]
    return Batch(
        observations=observations,
        actions=episodes.actions,
        log_probs=table(vector, problem)(observations).log_prob(episodes.actions),
        advantages=to_go - baseline,
        valid=jnp.ones(to_go.shape, bool),
        transitions=Transitions(
            episodes.rewards, jnp.broadcast_to(problem.discounts, to_go.shape), baseline, to_go, observations
        ),
    )


class Expected(AbstractObjective):
    """The expectation of an objective over all trajectories: the batch is every trajectory as a batch of its
    own, `[n 1 time]`, with its probability."""

    objective: AbstractObjective

    def predict(self, policy: PyTree, batch: tuple[Batch, Array]) -> PyTree:
        return jax.vmap(lambda one: self.objective.predict(policy, one))(batch[0])

    def loss(self, prediction: PyTree, batch: tuple[Batch, Array]) -> Float[Array, ""]:
        return batch[1] @ jax.vmap(self.objective.loss)(prediction, batch[0])

    def divergence(self, old: PyTree, new: PyTree, batch: tuple[Batch, Array]) -> Float[Array, ""]:
        return batch[1] @ jax.vmap(self.objective.divergence)(old, new, batch[0])


@eqx.filter_jit
def limit(
    tasks: Tasks, vector: Vector, inner: AbstractObjective, steps: int, *, first_order: bool = False
) -> Vector:
    """The meta-gradient that differentiates through steps on `inner`, of infinitely many episodes."""

    def of_task(task: Tasks) -> Vector:
        values = solve(task.problems, table(vector, task.problems).probabilities).values

        def after(start: Vector) -> Float[Array, ""]:
            policy = table(start, task.problems)
            rule, state = task.inner, task.inner.init(policy)
            for _ in range(steps):
                # The data are constants, as they are where they are sampled.
                at = jax.lax.stop_gradient(policy.table.reshape(-1))
                batch = batch_of(task.problems, at, task.episodes, values)
                chances = task.chances * jnp.exp(batch.log_probs.sum(axis=1))
                listed = jax.tree.map(lambda x: x[:, None], batch)
                data: Any = listed, chances
                policy, state = inner_step(
                    Expected(inner), rule, policy, data, state, first_order=first_order
                )
            return expected_return(task.problems, policy.table.reshape(-1))

        return jax.grad(after)(vector)

    return tasks.mean(of_task)


@eqx.filter_jit
def sampled_objective_gradient(tasks: Tasks, vector: Vector, episodes: int) -> Vector:
    """∇J_N with J_N = E[J(θ + α ĝ(D))], where D are N episodes of π_θ and ĝ the gradient estimated from them:
    the return after one step as it is taken, by listing every data set. N is `episodes`, a small number."""
    sets = jnp.asarray(list(product(range(tasks.chances.shape[1]), repeat=episodes)), jnp.int32)

    def of_task(task: Tasks) -> Vector:
        values = solve(task.problems, table(vector, task.problems).probabilities).values
        batch = batch_of(task.problems, vector, task.episodes, values)

        def log_likelihood(v: Vector) -> Float[Array, "n time"]:
            return table(v, task.problems)(batch.observations).log_prob(batch.actions)

        def objective(v: Vector) -> Float[Array, ""]:
            scores = jax.jacobian(log_likelihood)(v)
            gradients = jnp.einsum("nt,ntp->np", batch.advantages, scores) / task.horizon
            chances = task.chances * jnp.exp(log_likelihood(v).sum(axis=1))

            def of_set(members: Array) -> Float[Array, ""]:
                moved = v + task.lr * gradients[members].mean(axis=0)
                return jnp.prod(chances[members]) * expected_return(task.problems, moved)

            return jnp.sum(jax.vmap(of_set)(sets))

        return jax.grad(objective)(vector)

    return tasks.mean(of_task)
