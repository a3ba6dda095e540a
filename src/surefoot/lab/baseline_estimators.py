"""Estimators of the policy gradient with different baselines.

The library's baselines are fitted and subtracted as `Estimation` does it. The others are the optimal
constant, and exact baselines, which can be computed for a small problem.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot import algorithms
from surefoot.algorithms import Estimation, Normalisation, Scales
from surefoot.baselines import AbstractBaseline, Constant, LinearFeatures, TimeDependent, ValueNetwork, Zero
from surefoot.lab.exact import Exact, solve, step_scores
from surefoot.lab.problems import Episodes, Problem, SoftmaxTable
from surefoot.theory.policy_gradient import optimal_baseline, policy_gradient
from surefoot.theory.returns import discounted_return
from surefoot.types import Key, Rollout

PLAIN = "whole return"
CAUSAL = "reward-to-go"
CREDITS: Mapping[str, Literal["gae", "whole-return"]] = {PLAIN: "whole-return", CAUSAL: "gae"}
"""The names of `Estimation`; `gae` with its λ of 1 is the reward-to-go."""
Fit = Literal["previous-batch", "cross-fit", "same-batch"]

NETWORK = ValueNetwork(hidden=(16,), lr=0.05, epochs=50)
"""A network for few, large steps, since it starts again in every batch."""
TD_NETWORK = ValueNetwork(hidden=(16,), lr=0.05, epochs=10, target="td", rounds=10)


class Data(eqx.Module):
    """One batch of episodes, and what the estimators know of the problem."""

    problem: Problem
    solved: Exact
    optimal: Float[Array, " parameters"]
    """The exact optimal constant."""
    batch: Rollout
    """The episodes from which the gradient is estimated."""
    scores: Float[Array, "n time parameters"]
    """∇log π(a_t|s_t) in them."""
    others: Rollout
    """Other episodes, to which baselines are fitted: one fewer, as many as remain if one is left out."""
    key: Key
    """For a baseline with random initial parameters; the same in every batch."""


Estimator = Callable[[Data], Float[Array, " parameters"]]


def data_of(
    problem: Problem, policy: SoftmaxTable, optimal: Float[Array, " parameters"], episodes: Episodes, key: Key
) -> Data:
    """The estimators' inputs from 2n − 1 episodes, of which the first n are the batch."""
    size = (len(episodes.states) + 1) // 2
    rollout = rollout_of(problem, episodes)
    return Data(
        problem,
        solve(problem, policy.probabilities),
        optimal,
        jax.tree.map(lambda x: x[:size], rollout),
        step_scores(policy, episodes)[:size],
        jax.tree.map(lambda x: x[size:], rollout),
        key,
    )


def rollout_of(problem: Problem, episodes: Episodes) -> Rollout:
    """The episodes as a sampler returns them, except for two fields that no baseline uses: log-probabilities,
    and the observation after the last step."""
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
        times=steps,
        final_observations=observations[..., :1, :],
    )


def fitted(credit: str, baseline: AbstractBaseline, fit: Fit = "previous-batch") -> Estimator:
    """An estimator with one of the library's baselines.

    It is fitted to the other episodes (`previous-batch`), to the other half of the batch (`cross-fit`), or to
    the batch itself (`same-batch`).
    """

    def estimate(data: Data) -> Array:
        estimator = _estimator(data, credit, baseline, fit)
        *_, steps, observation_space = data.batch.observations.shape
        # Once for all batches: a network's initial parameters take a QR decomposition.
        with jax.ensure_compile_time_eval():
            parameters = baseline.init(data.key, observation_space, steps)
        if fit == "previous-batch":
            one_task = jax.tree.map(lambda x: x[None], data.others)
            parameters = estimator.refit(estimator.prepare(one_task, SCALES), parameters)
        batch = estimator.batch(estimator.prepare(data.batch, SCALES), parameters)
        return _gradient(data, credit, batch.advantages)

    return estimate


def known(credit: str, table: Callable[[Exact], Float[Array, "time states"]]) -> Estimator:
    """An estimator with an exact V_t(s)."""

    def estimate(data: Data) -> Array:
        values = table(data.solved)

        def at(observations: Array, times: Array) -> Array:
            return jnp.sum(values[times] * observations, axis=-1)

        def critic(rollout: Rollout) -> tuple[Array, Array]:
            following = at(rollout.next_observations, rollout.times + 1)
            return at(rollout.observations, rollout.times), following

        estimator = _estimator(data, credit, Zero(), "previous-batch")
        batch = estimator.batch(estimator.prepare(data.batch, SCALES), None, critic)
        return _gradient(data, credit, batch.advantages)

    return estimate


def optimal_constant(fit: Literal["others", "same", "exact"]) -> Estimator:
    """mean ψ (R − b) with b = Σ ψ²R / Σ ψ² for each parameter, and its score ψ.

    The sums are over the batch without the episode that b is subtracted from (`others`), over the whole batch
    (`same`), or expectations (`exact`).
    """

    def estimate(data: Data) -> Array:
        scores = data.scores.sum(axis=1)
        returns = jax.vmap(discounted_return, (0, None))(data.batch.rewards, data.problem.discounts)
        if fit == "exact":
            return policy_gradient(scores, returns, data.optimal)
        estimated = optimal_baseline(scores, returns, leave_one_out=fit == "others")
        return policy_gradient(scores, returns, estimated)

    return estimate


def _estimator(data: Data, credit: str, baseline: AbstractBaseline, fit: Fit) -> algorithms.Estimator:
    estimation = Estimation(baseline, data.problem.discount, CREDITS[credit], normalise=False, fit=fit)
    return algorithms.Estimator(estimation, Normalisation(), limit_ends_return=True)


def _gradient(data: Data, credit: str, advantages: Float[Array, "n time"]) -> Float[Array, " parameters"]:
    """The mean of Σ_t ∇log π(a_t|s_t) A_t for the whole return, and of Σ_t γᵗ ∇log π(a_t|s_t) A_t for the
    reward-to-go."""
    weighted = advantages if credit == PLAIN else data.problem.discount_powers * advantages
    return jnp.einsum("ntp,nt->p", data.scores, weighted) / len(weighted)


def _mean_values(solved: Exact) -> Float[Array, "time states"]:
    """E[G_t] = Σ_s P(s_t = s) V_t(s), the same in every state."""
    means = jnp.sum(solved.occupancy * solved.values, axis=1, keepdims=True)
    return jnp.broadcast_to(means, solved.values.shape)


SCALES = Scales(None, None)
"""Nothing is normalised."""
NONE: Mapping[str, Estimator] = {credit: fitted(credit, Zero()) for credit in CREDITS}
EXACT: Mapping[str, Estimator] = {
    f"{PLAIN}, constant, exact": known(PLAIN, lambda x: jnp.full_like(x.values, x.value)),
    f"{PLAIN}, optimal constant, exact": optimal_constant("exact"),
    f"{CAUSAL}, of time, exact": known(CAUSAL, _mean_values),
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
"""The library's baselines, fitted to other episodes."""
FITTED: Mapping[str, Estimator] = {f"{PLAIN}, optimal constant": optimal_constant("others"), **LIBRARY}
UNBIASED: Mapping[str, Estimator] = {**NONE, **EXACT, **FITTED}
"""Estimators whose baseline does not depend on the episode that it is subtracted from."""
BIASED: Mapping[str, Estimator] = {
    f"{PLAIN}, optimal constant, same episodes": optimal_constant("same"),
    f"{CAUSAL}, linear-features, same episodes": fitted(CAUSAL, LinearFeatures(), "same-batch"),
}
"""Estimators whose baseline is fitted to the same episodes."""
ESTIMATORS: Mapping[str, Estimator] = {**UNBIASED, **BIASED}
