"""Episodes drawn from a problem, and what many estimates made of them say of their estimator."""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from scipy import stats

from surefoot.lab.exact import score_table
from surefoot.lab.problems import Problem, action_probabilities
from surefoot.types import Key

CONFIDENCE = 1e-4
"""An estimator counts as unbiased if a mean so far off the truth would be rarer than this otherwise not."""


class Episodes(eqx.Module):
    """Episodes of full length, drawn by a policy or listed."""

    states: Int[Array, "*n time"]
    actions: Int[Array, "*n time"]
    rewards: Float[Array, "*n time"]


def draw(
    problem: Problem, policy: PyTree, key: Key, shape: tuple[int, ...], *, noise: float = 0.0
) -> Episodes:
    """Episodes of a problem of finite horizon, with the leading axes `shape`.

    Rewards are r(s, a) plus normal noise of standard deviation `noise`.
    """
    logits, moves = jnp.log(action_probabilities(problem, policy)), jnp.log(problem.mdp.transitions)

    def step(s_t: Array, key: Key) -> tuple[Array, tuple[Array, Array, Array]]:
        action_key, state_key, noise_key = jax.random.split(key, 3)
        a_t = jax.random.categorical(action_key, logits[s_t])
        s_tp1 = jax.random.categorical(state_key, moves[s_t, a_t])
        mean = problem.mdp.rewards[s_t, a_t]
        return s_tp1, (s_t, a_t, mean + noise * jax.random.normal(noise_key, shape, mean.dtype))

    start_key, steps_key = jax.random.split(key)
    start = jax.random.categorical(start_key, jnp.log(problem.start), shape=shape)
    _, steps = jax.lax.scan(step, start, jax.random.split(steps_key, problem.horizon or 0))
    return Episodes(*(jnp.moveaxis(x, 0, -1) for x in steps))


def step_scores(problem: Problem, policy: PyTree, episodes: Episodes) -> Float[Array, "*n time parameters"]:
    """∇log π(a_t|s_t) over the flattened parameters."""
    return score_table(problem, policy)[episodes.states, episodes.actions]


def discounts_of(problem: Problem, discount: float | None = None) -> Float[Array, " time"]:
    """γ_t: the problem's discount, or another one, and zero at the last step."""
    discount = problem.discount if discount is None else discount
    steps = problem.horizon or 0
    return jnp.where(jnp.arange(steps) < steps - 1, discount, 0.0).astype(problem.start.dtype)


def past_discounts(problem: Problem) -> Float[Array, " time"]:
    """γᵗ, what the steps count in J."""
    return jnp.asarray([problem.discount**t for t in range(problem.horizon or 0)], problem.start.dtype)


@dataclass(frozen=True)
class Quality:
    """What many independent estimates of a known vector say of their estimator."""

    bias: float
    """‖mean − truth‖."""
    standard_error: float
    """√ tr(C/N): the size of `bias` that chance alone makes, with C the covariance of N estimates."""
    p_value: float
    """How often an unbiased estimator's mean would lie as far off: by χ² of (mean − truth)ᵀ (C/N)⁻¹ (mean −
    truth) over the directions in which the estimates vary."""
    variance: float
    """tr C, times the number of episodes in an estimate: a figure for each episode."""

    @property
    def unbiased(self) -> bool:
        """Whether the mean is within the confidence region about the truth."""
        return self.p_value > CONFIDENCE


def quality(
    estimates: Float[Array, "batch parameters"], truth: Float[Array, " parameters"], episodes: int
) -> Quality:
    """Of estimates that were each made from so many `episodes`."""
    sample, error = np.asarray(estimates), np.mean(estimates, axis=0) - np.asarray(truth)
    covariance = np.atleast_2d(np.cov(sample, rowvar=False))
    sizes, directions = np.linalg.eigh(covariance / len(sample))
    varies = sizes > 1e-10 * max(sizes.max(), np.finfo(float).tiny)
    distance = np.sum((error @ directions)[varies] ** 2 / sizes[varies])
    return Quality(
        float(np.linalg.norm(error)),
        float(np.sqrt(sizes.sum())),
        float(stats.chi2.sf(distance, varies.sum())),
        float(episodes * np.trace(covariance)),
    )


def in_batches(f: Callable[[PyTree], PyTree], data: PyTree, at_once: int = 500) -> PyTree:
    """`f` of each batch, the leading axis of all arrays, so many at once to bound the memory."""
    return jax.jit(lambda data: jax.lax.map(f, data, batch_size=at_once))(data)
