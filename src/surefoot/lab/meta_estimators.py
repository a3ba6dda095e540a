"""Estimators of the meta-gradient, as the library computes them, from sampled episodes of two small tasks."""

from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.algorithms.emaml import Exploration
from surefoot.algorithms.promp import SupportKL
from surefoot.algorithms.reptile import DistanceToAdapted
from surefoot.lab.exact import solve
from surefoot.lab.meta_problems import Tasks, Vector, batch_of, table
from surefoot.lab.problems import Problem
from surefoot.lab.sampling import draw
from surefoot.theory.dice import DiceObjective
from surefoot.theory.meta import AbstractMetaObjective, AbstractTerm, adapted, inner_step
from surefoot.theory.objectives import (
    AbstractObjective,
    PolicyObjective,
    loss_and_gradient,
    reinforce,
    surrogate,
)
from surefoot.types import Batch, Key, MetaBatch

SURROGATE, PSEUDO = PolicyObjective(surrogate), PolicyObjective(reinforce)
LAMBDAS = (0.0, 0.5, 0.8, 1.0)
LVC, DICE, TMAML = "LVC (surrogate)", "DiCE", "DiCE with TMAML's control variate"
PSEUDO_LOSS, FIRST_ORDER, EMAML, REPTILE = "log-likelihood", "first order", "E-MAML", "Reptile"
PROMP = "ProMP, fifth step"
CLIP, KL_COEFFICIENT = 0.3, 5e-4
"""ε and η of ProMP (Rothfuss et al., 2019)."""
LOADED: Mapping[str, float] = {
    LVC: 0.0,
    **{f"loaded DiCE, λ = {x:g}": x for x in LAMBDAS[1:-1]},
    TMAML: 1.0,
}
"""λ of the estimators that differ by it alone; all have the control variate."""
INNER: Mapping[str, AbstractObjective] = {
    PSEUDO_LOSS: PSEUDO,
    **{name: DiceObjective(decay) for name, decay in LOADED.items()},
    DICE: DiceObjective(1.0, control_variate=False),
}
"""The inner losses of the estimators that differ by it alone."""
Sample = tuple[MetaBatch, Float[Array, "task episode"]]
"""The episodes of every phase and task, and the returns of the query's."""


def sample(tasks: Tasks, vector: Vector, key: Key, episodes: int, steps: int) -> Sample:
    """Adaptation to every task, with `episodes` episodes in each phase. It is the same for all estimators:
    their inner losses have one gradient at the policy that drew the data."""

    def of_task(problem: Problem, key: Key) -> list[Batch]:
        policy, batches = table(vector, problem), []
        values = solve(problem, policy.probabilities).values
        state = tasks.inner.init(policy)
        for phase in range(steps + 1):
            episodes_key = jax.random.fold_in(key, phase)
            drawn = draw(problem, policy, episodes_key, (episodes,))
            batches.append(batch_of(problem, policy.table.reshape(-1), drawn, values))
            if phase < steps:
                policy, state = inner_step(PSEUDO, tasks.inner, policy, batches[-1], state)
        return batches

    keys = jax.random.split(key, len(tasks.problems.start))
    *support, query = jax.vmap(of_task)(tasks.problems, keys)
    assert query.transitions is not None
    return MetaBatch(tuple(support), query), query.transitions.rewards.sum(axis=-1)


def estimates(
    tasks: Tasks, vector: Vector, moved: Vector, key: Key, episodes: int, steps: int
) -> dict[str, Vector]:
    """Every estimator's meta-gradient from one meta-batch, which the policy `vector` drew. ProMP's fifth step
    is taken at `moved`."""
    data = sample(tasks, vector, key, episodes, steps)

    def of(objective: AbstractMetaObjective, at: Vector = vector) -> Vector:
        return ascent(tasks, objective, vector, at, data)

    def loaded(decay: Array) -> Vector:
        return of(meta(tasks, DiceObjective(decay)))

    decays = jnp.asarray(list(LOADED.values()), vector.dtype)
    along = dict(zip(LOADED, jax.vmap(loaded)(decays), strict=True))
    return {
        PSEUDO_LOSS: of(meta(tasks, PSEUDO)),
        **along,
        DICE: of(meta(tasks, INNER[DICE])),
        FIRST_ORDER: of(meta(tasks, PSEUDO, first_order=True)),
        EMAML: of(emaml(tasks)),
        PROMP: of(promp(tasks, steps), moved),
        REPTILE: of(reptile(tasks)) / (tasks.lr * steps),
    }


def meta(
    tasks: Tasks,
    inner: AbstractObjective,
    *,
    outer: AbstractObjective = SURROGATE,
    first_order: bool = False,
    terms: dict[str, AbstractTerm] | None = None,
) -> AbstractMetaObjective:
    """The objective of a gradient-based method."""
    chunk = len(tasks.problems.start)
    return adapted(
        outer, tasks.inner, inner_objective=inner, first_order=first_order, chunk=chunk, terms=terms
    )


def emaml(tasks: Tasks, inner: AbstractObjective = PSEUDO) -> AbstractMetaObjective:
    """MAML with credit for exploration."""
    return meta(tasks, inner, terms={"exploration": Exploration(jnp.ones(()))})


def promp(tasks: Tasks, steps: int) -> AbstractMetaObjective:
    """The clipped surrogate with the KL of the support sets."""
    kl = SupportKL(jnp.full(steps, KL_COEFFICIENT), None)
    return meta(tasks, SURROGATE, outer=SURROGATE.clipped(CLIP), terms={"support_kl": kl})


def reptile(tasks: Tasks) -> AbstractMetaObjective:
    """The distance to the adapted policies."""
    return DistanceToAdapted(PSEUDO, tasks.inner, len(tasks.problems.start))


def ascent(
    tasks: Tasks, objective: AbstractMetaObjective, vector: Vector, at: Vector, data: Sample
) -> Vector:
    """−T ∇L at the policy `at`, from data of the policy `vector`: an estimate of ∇M, as the losses are means
    over the T steps of an episode."""
    batch, returns = data
    policies = [table(x, tasks.problems) for x in (vector, at)]
    batch = replace(batch, prepared=objective.prepare(policies[0], batch, returns))
    _, gradient = loss_and_gradient(objective, policies[1], batch)
    return -tasks.horizon * gradient.table.reshape(-1)
