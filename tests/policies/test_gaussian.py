from math import exp, log
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.samples import gaussian_policy
from surefoot.options import UserError
from surefoot.policies import GaussianMLP
from surefoot.types import Discrete

OBSERVATIONS = jax.random.normal(jax.random.key(5), (3, 4, 2))


@pytest.mark.parametrize("batch", [(), (4,), (3, 4)])
def test_predictions_have_the_shape_of_the_batch(batch: tuple[int, ...]):
    distribution = gaussian_policy(actions=3)(jnp.ones((*batch, 2)))
    assert distribution.mean.shape == distribution.log_std.shape == (*batch, 3)
    assert distribution.log_prob(distribution.mode()).shape == batch


@pytest.mark.parametrize("std", [0.01, 0.5, 1.0, 3.0])
def test_it_starts_with_the_standard_deviation_asked_for(std: float):
    distribution = gaussian_policy(initial_std=std)(OBSERVATIONS)
    np.testing.assert_allclose(jnp.exp(distribution.log_std), std, rtol=1e-4)


def test_the_standard_deviation_has_a_lower_bound():
    policy = gaussian_policy(min_std=0.1)
    policy = eqx.tree_at(lambda p: p.raw_log_std, policy, jnp.full(2, -50.0))
    np.testing.assert_allclose(policy.log_std, log(0.1), rtol=1e-5)


def test_a_standard_deviation_far_below_its_bound_can_still_be_raised():
    def log_std(raw: jax.Array) -> jax.Array:
        policy = gaussian_policy(min_std=0.1)
        return eqx.tree_at(lambda p: p.raw_log_std, policy, raw).log_std.sum()

    bound = log(0.1)
    slope = jax.grad(log_std)(jnp.array([bound - 10.0, bound + 10.0]))
    # The logistic function at −10 and 10: small, but no clamp's zero.
    np.testing.assert_allclose(slope, [1 / (1 + exp(10)), 1 / (1 + exp(-10))], rtol=1e-4)


def test_an_action_scale_is_a_change_of_units():
    scale, key = 0.1, jax.random.key(2)
    unit, scaled = gaussian_policy(), gaussian_policy(action_scale=scale)
    actions = unit(OBSERVATIONS).sample(key)
    np.testing.assert_allclose(scaled(OBSERVATIONS).sample(key), scale * actions, rtol=1e-5, atol=1e-6)
    # Densities per unit of a space of 2 dimensions.
    np.testing.assert_allclose(
        scaled(OBSERVATIONS).log_prob(scale * actions),
        unit(OBSERVATIONS).log_prob(actions) - 2 * log(scale),
        rtol=1e-4,
    )


def test_policies_differ_in_action_scale_by_nothing_that_is_learned():
    unit, scaled = gaussian_policy(), gaussian_policy(action_scale=0.1)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(unit), jax.tree.leaves(scaled), strict=True)
    )


def test_discrete_actions_are_refused_with_what_to_use_instead():
    with pytest.raises(UserError, match="--policy categorical-mlp"):
        GaussianMLP().build(jax.random.key(0), 2, Discrete(3))


def test_a_full_covariance_is_that_of_its_samples():
    policy = gaussian_policy(actions=3, initial_std=0.5, covariance="full")
    below = jnp.array([[9.0, 9.0, 9.0], [1.0, 9.0, 9.0], [-0.5, 2.0, 9.0]])
    policy = eqx.tree_at(lambda p: p.correlation, policy, below)
    distribution = policy(jnp.ones(2))
    unit = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [-0.5, 2.0, 1.0]])
    samples = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 20_000))
    np.testing.assert_allclose(np.cov(samples.T), 0.25 * unit @ unit.T, atol=0.06)


def test_a_full_covariance_begins_as_a_diagonal_one():
    plain, full = (gaussian_policy(covariance=kind) for kind in ("diagonal", "full"))
    actions = plain(OBSERVATIONS).sample(jax.random.key(1))
    np.testing.assert_allclose(
        full(OBSERVATIONS).log_prob(actions), plain(OBSERVATIONS).log_prob(actions), rtol=1e-5
    )


def test_what_two_actions_have_in_common_is_learned_with_a_full_covariance_alone():
    """The actions should be alike and may be anything: of the entropy that this leaves, independent ones keep
    little."""

    def cost(policy: Any, key: Any) -> Any:
        distribution = policy(jnp.ones((512, 2)))
        first, second = distribution.sample(key).T
        apart = 25.0 * (first - second) ** 2 + 0.5 * (first**2 + second**2)
        return jnp.mean(apart - distribution.entropy())

    @eqx.filter_jit
    def step(policy: Any, key: Any) -> Any:
        return eqx.apply_updates(
            policy, jax.tree.map(lambda g: -0.01 * g, eqx.filter_grad(cost)(policy, key))
        )

    reached = {}
    for kind in ("diagonal", "full"):
        policy = gaussian_policy(covariance=kind)
        for key in jax.random.split(jax.random.key(0), 300):
            policy = step(policy, key)
        reached[kind] = float(cost(policy, jax.random.key(1)))
    assert reached["full"] < reached["diagonal"] - 0.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_std": 0.0}, "min-std is 0.0; it must be a positive number"),
        ({"action_scale": 0.0}, "action-scale is 0.0; it must be a positive number"),
        ({"initial_std": 1e-7}, "initial-std is 1e-07; it must be above min-std"),
        ({"initial_std": float("inf")}, "initial-std is inf; it must be above min-std, and finite"),
        ({"action_scale": float("inf")}, "action-scale is inf; it must be a positive number"),
        ({"output_scale": float("inf")}, "output-scale is inf; it must be 0 or more, and finite"),
        ({"hidden": (0,)}, "hidden is .0,.; it must be layer sizes of 1 or more"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        GaussianMLP(**options)
