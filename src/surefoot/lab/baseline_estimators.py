"""Estimators of the policy gradient, each with another baseline: the library's, fitted and subtracted as
`Estimation` does it, the optimal constant, and exact ones, which only a small problem lets us know."""

from collections.abc import Callable, Mapping
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot import algorithms
from surefoot.algorithms import Estimation, Normalisation, Scales
from surefoot.baselines import (
    AbstractBaseline,
    Constant,
    LinearFeatures,
    TimeDependent,
    ValueNetwork,
    Zero,
)
from surefoot.lab import exact
from surefoot.lab.problems import Problem, SoftmaxTable, action_probabilities
from surefoot.lab.sampling import Episodes, discounts_of, past_discounts, step_scores
from surefoot.theory.policy_gradient import optimal_baseline, policy_gradient
from surefoot.theory.returns import discounted_return
from surefoot.types import Key, Rollout

PLAIN = "whole return"
CAUSAL = "reward-to-go"
CREDITS: Mapping[str, Literal["gae", "whole-return"]] = {PLAIN: "whole-return", CAUSAL: "gae"}
"""As `Estimation` names them; `gae` with its λ of 1 is the reward-to-go."""
Fit = Literal["previous-batch", "cross-fit", "same-batch"]

NETWORK = ValueNetwork(hidden=(16,), lr=0.05, epochs=50)
"""It starts anew in every batch, so that a few large steps must do."""
TD_NETWORK = ValueNetwork(hidden=(16,), lr=0.05, epochs=10, target="td", rounds=10)


class Data(eqx.Module):
    """One batch of episodes, as the estimators see it."""

    problem: Problem
    solved: exact.Exact
    optimal: Float[Array, " parameters"]
    """The exact optimal constant."""
    judged: Rollout
    """The episodes of which the estimate is made."""
    scores: Float[Array, "n time parameters"]
    """∇log π(a_t|s_t) in them."""
    others: Rollout
    """For baselines to be fitted to: one fewer, as leaving one out leaves."""
    key: Key
    """For a baseline that draws its first parameters; the same in every batch."""


Estimator = Callable[[Data], Float[Array, " parameters"]]
Table = Callable[[exact.Exact], Float[Array, "time states"]]


def data_of(
    problem: Problem, policy: SoftmaxTable, optimal: Float[Array, " parameters"], episodes: Episodes, key: Key
) -> Data:
    """What the estimators see of 2n − 1 episodes: the first n are judged. `optimal` is the exact constant."""
    judged = (len(episodes.states) + 1) // 2
    rollout = rollout_of(problem, episodes)
    return Data(
        problem,
        exact.solve(problem, action_probabilities(problem, policy)),
        optimal,
        jax.tree.map(lambda x: x[:judged], rollout),
        step_scores(problem, policy, episodes)[:judged],
        jax.tree.map(lambda x: x[judged:], rollout),
        key,
    )


def rollout_of(problem: Problem, episodes: Episodes) -> Rollout:
    """The episodes as a sampler would hand them over, but for the probabilities of the actions, which no
    baseline sees, and the state after the last step, which no return counts."""
    observations = problem.observations[episodes.states]
    steps = jnp.broadcast_to(jnp.arange(episodes.states.shape[-1]), episodes.states.shape)
    last = steps == steps.shape[-1] - 1
    return Rollout(
        observations=observations,
        actions=episodes.actions,
        log_probs=jnp.zeros_like(episodes.rewards),
        rewards=episodes.rewards,
        terminated=jnp.zeros_like(last),
        truncated=last,
        valid=jnp.ones_like(last),
        next_observations=jnp.roll(observations, -1, axis=-2),
        times=steps,
    )


def fitted(credit: str, baseline: AbstractBaseline, fit: Fit = "previous-batch") -> Estimator:
    """With one of the library's baselines, fitted to the other episodes (`after`), or to those judged: to
    the other half of them (`cross`), or to all (`before`)."""

    def estimate(data: Data) -> Array:
        estimator = _estimator(data, credit, baseline, fit)
        *_, steps, observation_size = data.judged.observations.shape
        with jax.ensure_compile_time_eval():  # once and for all batches: a network's start is a QR by LAPACK
            parameters = baseline.init(data.key, observation_size, steps)
        if fit == "previous-batch":
            one_task = jax.tree.map(lambda x: x[None], data.others)
            parameters = estimator.refit(estimator.prepare(one_task, SCALES), parameters)
        batch = estimator.batch(estimator.prepare(data.judged, SCALES), parameters)
        return _gradient(data, credit, batch.advantages)

    return estimate


def known(credit: str, table: Table) -> Estimator:
    """With an exact V_t(s)."""

    def estimate(data: Data) -> Array:
        values = table(data.solved)

        def critic(observations: Array, times: Array) -> Array:
            return jnp.sum(values[times.astype(int)] * observations, axis=-1)

        estimator = _estimator(data, credit, Zero(), "previous-batch")
        batch = estimator.batch(estimator.prepare(data.judged, SCALES), None, critic)
        return _gradient(data, credit, batch.advantages)

    return estimate


def optimal_constant(fit: Literal["others", "same", "exact"]) -> Estimator:
    """mean s (R − b) with b = Σ s²R / Σ s² for each parameter, from the judged episodes but the one that it
    is subtracted from, from all of them, or exact."""

    def estimate(data: Data) -> Array:
        scores = data.scores.sum(axis=1)
        returns = jax.vmap(discounted_return, (0, None))(data.judged.rewards, discounts_of(data.problem))
        if fit == "exact":
            return policy_gradient(scores, returns, data.optimal)
        estimated = optimal_baseline(scores, returns, leave_one_out=fit == "others")
        return policy_gradient(scores, returns, estimated)

    return estimate


def _estimator(data: Data, credit: str, baseline: AbstractBaseline, fit: Fit) -> algorithms.Estimator:
    estimation = Estimation(baseline, data.problem.discount, CREDITS[credit], normalise=False, fit=fit)
    return algorithms.Estimator(estimation, Normalisation(), limit_ends_return=True)


def _gradient(data: Data, credit: str, advantages: Float[Array, "n time"]) -> Float[Array, " parameters"]:
    """mean Σ_t ∇log π(a_t|s_t) A_t of the whole return, mean Σ_t γᵗ ∇log π(a_t|s_t) A_t of the
    reward-to-go."""
    weighted = advantages if credit == PLAIN else past_discounts(data.problem) * advantages
    return jnp.einsum("ntp,nt->p", data.scores, weighted) / len(weighted)


def _of_time(solved: exact.Exact) -> Float[Array, "time states"]:
    """E[G_t] = Σ_s P(s_t = s) V_t(s)."""
    means = jnp.sum(solved.occupancy * solved.values, axis=1, keepdims=True)
    return jnp.broadcast_to(means, solved.values.shape)


SCALES = Scales(None, None)
"""Nothing is normalised."""
NONE: Mapping[str, Estimator] = {credit: fitted(credit, Zero()) for credit in CREDITS}
EXACT: Mapping[str, Estimator] = {
    f"{PLAIN}, constant, exact": known(PLAIN, lambda x: jnp.full_like(x.values, x.value)),
    f"{PLAIN}, optimal constant, exact": optimal_constant("exact"),
    f"{CAUSAL}, of time, exact": known(CAUSAL, _of_time),
    f"{CAUSAL}, of time and state, exact": known(CAUSAL, lambda x: x.values),
}
LIBRARY: Mapping[str, Estimator] = {
    f"{PLAIN}, constant": fitted(PLAIN, Constant()),
    f"{CAUSAL}, constant": fitted(CAUSAL, Constant()),
    f"{CAUSAL}, time-dependent": fitted(CAUSAL, TimeDependent()),
    f"{CAUSAL}, linear-features": fitted(CAUSAL, LinearFeatures()),
    f"{CAUSAL}, linear-features, cross-fitted": fitted(CAUSAL, LinearFeatures(), "cross-fit"),
    f"{CAUSAL}, value-network": fitted(CAUSAL, NETWORK),
    f"{CAUSAL}, value-network by TD": fitted(CAUSAL, TD_NETWORK),
}
"""The library's baselines, fitted to other episodes than those judged."""
FITTED: Mapping[str, Estimator] = {f"{PLAIN}, optimal constant": optimal_constant("others"), **LIBRARY}
UNBIASED: Mapping[str, Estimator] = {**NONE, **EXACT, **FITTED}
"""Baselines that have not seen the episodes that they judge."""
BIASED: Mapping[str, Estimator] = {
    f"{PLAIN}, optimal constant, same episodes": optimal_constant("same"),
    f"{CAUSAL}, linear-features, same episodes": fitted(CAUSAL, LinearFeatures(), "same-batch"),
}
"""Baselines fitted to the very episodes that they judge."""
ESTIMATORS: Mapping[str, Estimator] = {**UNBIASED, **BIASED}
