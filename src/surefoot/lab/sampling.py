"""Sampled episodes of a problem, and the bias and variance of gradient estimates made from them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from scipy import stats

from surefoot.lab.problems import Episodes, Problem, SoftmaxTable
from surefoot.types import Key

CONFIDENCE = 1e-4
"""Level of the χ² test: an unbiased estimator fails it with this probability."""


def draw(
    problem: Problem, policy: SoftmaxTable, key: Key, shape: tuple[int, ...], *, noise: float = 0.0
) -> Episodes:
    """Sampled episodes of a problem with a finite horizon, with the leading axes `shape`.

    Rewards are r(s, a) plus normal noise with the standard deviation `noise`.
    """
    logits, moves = jnp.log(policy.probabilities), jnp.log(problem.mdp.transitions)

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


@dataclass(frozen=True)
class Quality:
    """Bias and variance of an estimator, measured from many independent estimates of a known vector."""

    bias: float
    """‖mean − truth‖."""
    standard_error: float
    """√ tr(C/N), with C the covariance of the N estimates: the size of `bias` for an unbiased estimator."""
    p_value: float
    """The probability that an unbiased estimator's mean is at least as far off: a χ² test of
    (mean − truth)ᵀ (C/N)⁻¹ (mean − truth) over the directions in which the estimates vary."""
    variance: float
    """tr C times the number of episodes in an estimate: the variance per episode."""

    @property
    def unbiased(self) -> bool:
        """Whether the truth is within the 99.99% confidence region of the mean."""
        return self.p_value > CONFIDENCE


def quality(
    estimates: Float[Array, "batch parameters"], truth: Float[Array, " parameters"], episodes: int
) -> Quality:
    """Bias and variance of estimates that were each made from `episodes` episodes."""
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


def least_p_value(qualities: Iterable[Quality]) -> str:
    """The smallest p-value, as text."""
    return f"least p-value {min(q.p_value for q in qualities):.2g}"


def in_batches(f: Callable[[PyTree], PyTree], data: PyTree, at_once: int = 500) -> PyTree:
    """`f` of each element of the leading axis of all arrays, `at_once` together to bound the memory."""
    return jax.jit(lambda data: jax.lax.map(f, data, batch_size=at_once))(data)
