from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.samples import categorical_policy
from surefoot.policies import GRU, NormalisedPolicy, act, initial_memory
from surefoot.theory.statistics import RunningStatistics, statistics_of
from surefoot.types import Discrete

# Means of 1 and −10, standard deviations of 2 and ½.
STATISTICS = RunningStatistics(jnp.array(4.0), jnp.array([1.0, -10.0]), jnp.array([16.0, 1.0]))
OBSERVATIONS = jnp.array(
    [[[1.0, -10.0], [3.0, -9.0], [-3.0, -10.5]], [[100.0, -10.0], [2.0, 50.0], [0.0, 0.0]]]
)
SEEN = jnp.array([[[0.0, 0.0], [1.0, 2.0], [-2.0, -1.0]], [[5.0, 0.0], [0.5, 5.0], [-0.5, 5.0]]])
STARTS = jnp.zeros((2, 3), bool).at[0, 1].set(True)


def recurrent() -> Any:
    return GRU(units=4, output_scale=1.0).build(jax.random.key(0), 2, Discrete(3))


POLICIES = pytest.mark.parametrize(
    "build", [categorical_policy, recurrent], ids=["feed-forward", "recurrent"]
)


@POLICIES
def test_the_policy_sees_standardised_observations(build: Any):
    policy = build()
    normalised = NormalisedPolicy(policy, STATISTICS, 5.0)
    np.testing.assert_allclose(normalised(OBSERVATIONS).logits, policy(SEEN).logits, atol=1e-5)
    assert jnp.abs(policy(OBSERVATIONS).logits - policy(SEEN).logits).max() > 0.01


def test_acting_without_a_memory_carries_none():
    policy = categorical_policy()
    normalised = NormalisedPolicy(policy, STATISTICS, 5.0)
    assert initial_memory(normalised) is None
    distribution, memory = act(normalised, OBSERVATIONS[:, 1], None)
    np.testing.assert_allclose(distribution.logits, policy(SEEN[:, 1]).logits, atol=1e-5)
    assert memory is None
    unrolled = normalised.unroll(OBSERVATIONS, STARTS, None)
    np.testing.assert_allclose(unrolled.logits, policy(SEEN).logits, atol=1e-5)


def test_what_a_recurrent_policy_remembers_is_passed_on():
    policy = recurrent()
    normalised = NormalisedPolicy(policy, STATISTICS, 5.0)
    np.testing.assert_array_equal(initial_memory(normalised), jnp.zeros(4))
    memory = jnp.full((2, 4), 0.5)
    distribution, following = act(normalised, OBSERVATIONS[:, 1], memory)
    expected, remembered = policy.act(SEEN[:, 1], memory)
    np.testing.assert_allclose(distribution.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(following, remembered, atol=1e-5)
    unrolled = normalised.unroll(OBSERVATIONS, STARTS, memory)
    np.testing.assert_allclose(unrolled.logits, policy.unroll(SEEN, STARTS, memory).logits, atol=1e-5)


def test_the_limit_is_that_of_the_option():
    policy = categorical_policy()
    far = jnp.array([[1e6, -10.0]])
    for limit in (1.0, 5.0):
        seen = NormalisedPolicy(policy, STATISTICS, limit)(far).logits
        np.testing.assert_allclose(seen, policy(jnp.array([[limit, 0.0]])).logits, atol=1e-5)


def test_one_program_serves_all_statistics():
    """Statistics are data: a new batch's do not compile anything anew."""
    traced = 0

    @eqx.filter_jit
    def logits(policy: NormalisedPolicy) -> Any:
        nonlocal traced
        traced += 1
        return policy(OBSERVATIONS).logits

    policy, empty = categorical_policy(), RunningStatistics.empty(2)
    more = empty.merge(statistics_of(OBSERVATIONS, jnp.ones((2, 3), bool)))
    first, second = (logits(NormalisedPolicy(policy, statistics, 5.0)) for statistics in (empty, more))
    assert traced == 1
    assert not np.allclose(first, second)
