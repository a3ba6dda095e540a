from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import gradient_of, identical, kl_hessian, ravel
from support.probes import Bowl, Point
from support.samples import categorical_policy, gaussian_policy, random_batch
from surefoot.options import UserError
from surefoot.rules import NaturalGradient, TrustRegionPenalty
from surefoot.theory.objectives import PolicyObjective, surrogate

OBJECTIVE = PolicyObjective(surrogate)
# The gradient at (3, 2) is (3, 4) and the Fisher matrix the identity.
BOWL, START = Bowl([0.0, 1.0], [1.0, 4.0]), Point(3.0, 2.0)


@eqx.filter_jit
def _step(rule: TrustRegionPenalty, objective: Any, policy: Any, batch: Any, state: Any) -> Any:
    return rule.step(objective, policy, batch, state)


def step(rule: Any, policy: Any, batch: Any, beta: float | None = None, objective: Any = OBJECTIVE) -> Any:
    """A step with β: the rule's own, or another, which compiles no other program."""
    start = rule if beta is None else replace(rule, beta=beta)
    return _step(rule, objective, policy, batch, start.init(policy))


FIXED = TrustRegionPenalty(target_kl=None, damping=0.0, backtrack_ratio=0.5)
ONE_ATTEMPT = TrustRegionPenalty(target_kl=None, damping=0.0, max_backtracks=0)
ADAPTIVE = TrustRegionPenalty(target_kl=0.01)


def test_a_step_by_hand():
    policy, state, metrics = step(FIXED, START, jnp.zeros(1), 10.0, BOWL)
    np.testing.assert_allclose(policy.x, [3 - 0.3, 2 - 0.4], rtol=1e-5)
    assert policy.label == 7
    assert metrics["loss"] == 6.5
    np.testing.assert_allclose(metrics["loss_after"], 0.5 * 2.7**2 + 2 * 0.6**2, rtol=1e-5)
    np.testing.assert_allclose(metrics["kl"], 0.5 * 0.25, rtol=1e-4)
    assert metrics["line_search_attempts"] == metrics["step_accepted"] == 1.0
    assert metrics["beta"] == state == 10.0


def test_a_step_that_costs_more_than_it_gains_is_shortened():
    """With β = 1 the full step leads to (0, −2), where the loss alone is 18; half of it gains."""
    policy, _, metrics = step(FIXED, START, jnp.zeros(1), 1.0, BOWL)
    # Half: (1.5, 0), loss 1.125 + 2 and KL ½ · 6.25; their sum is 6.25 < 6.5.
    np.testing.assert_allclose(policy.x, [1.5, 0.0], atol=1e-5)
    assert metrics["line_search_attempts"] == 2.0
    np.testing.assert_allclose(metrics["loss_after"], 3.125, rtol=1e-5)
    np.testing.assert_allclose(metrics["kl"], 3.125, rtol=1e-5)


def test_it_is_the_penalised_loss_that_must_fall():
    """One attempt: it gains on the loss either way, and in the second case less than it has to pay."""
    policy, _, _ = step(ONE_ATTEMPT, Point(1.0), jnp.zeros(1), 0.5, Bowl([0.0], [0.4]))
    # The step is −0.8, to 0.2: the loss falls from 0.2 to 0.008, and the KL of 0.32 costs 0.16.
    np.testing.assert_allclose(policy.x, [0.2], rtol=1e-5)
    policy, _, metrics = step(ONE_ATTEMPT, Point(1.0), jnp.zeros(1), 0.5, Bowl([0.0], [0.9]))
    # −1.8, to −0.8: from 0.45 to 0.288, but 1.62 · ½ is the price.
    assert identical(policy, Point(1.0))
    assert metrics["step_accepted"] == 0.0
    np.testing.assert_allclose(metrics["loss_after"], metrics["loss"], rtol=1e-6)


def test_it_is_a_natural_gradient_step_with_the_inverse_price_for_a_rate(x64: None):
    policy = gaussian_policy(hidden=())
    batch = random_batch(policy, jax.random.key(1))
    exact = {"damping": 0.01, "cg_iterations": 60, "cg_tolerance": 1e-10}
    new, _, metrics = step(TrustRegionPenalty(beta=50.0, **exact), policy, batch)
    expected, _, _ = eqx.filter_jit(NaturalGradient(lr=1 / 50, **exact).step)(OBJECTIVE, policy, batch, None)
    assert metrics["line_search_attempts"] == 1.0
    np.testing.assert_allclose(ravel(new), ravel(expected), atol=1e-10)
    fisher = kl_hessian(OBJECTIVE, policy, batch) + 0.01 * np.eye(len(ravel(policy)))
    by_hand = -np.linalg.solve(fisher, ravel(gradient_of(OBJECTIVE, policy, batch)[1])) / 50
    np.testing.assert_allclose(ravel(new) - ravel(policy), by_hand, atol=1e-8)


@pytest.mark.parametrize("build", [gaussian_policy, categorical_policy], ids=["gaussian", "categorical"])
def test_the_loss_falls_by_more_than_the_divergence_costs(build: Any):
    policy = build()
    batch = random_batch(policy, jax.random.key(1))
    _, state, metrics = step(TrustRegionPenalty(beta=5.0, target_kl=None), policy, batch)
    assert metrics["step_accepted"] == 1.0
    assert metrics["loss_after"] + 5.0 * metrics["kl"] < metrics["loss"]
    assert metrics["kl"] > 1e-4
    assert state == 5.0


@pytest.mark.parametrize(("beta", "factor"), [(1.0, 2.0), (1000.0, 0.5)])
def test_the_price_doubles_after_a_long_step_and_halves_after_a_short_one(beta: float, factor: float):
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    _, state, metrics = step(ADAPTIVE, policy, batch, beta)
    assert (metrics["kl"] > 0.015) == (factor == 2.0)
    assert metrics["beta"] == beta
    assert state == factor * beta
    assert _step(ADAPTIVE, OBJECTIVE, policy, batch, state)[2]["beta"] == factor * beta


def test_the_price_doubles_after_a_step_that_was_refused():
    rule = replace(ONE_ATTEMPT, target_kl=0.01)
    policy, state, metrics = step(rule, Point(1.0), jnp.zeros(1), 0.5, Bowl([0.0], [0.9]))
    assert identical(policy, Point(1.0))
    assert metrics["step_accepted"] == metrics["kl"] == 0.0
    assert state == 1.0


def test_an_adapting_price_brings_the_divergence_to_its_target():
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    state = replace(ADAPTIVE, beta=1e4).init(policy)
    for _ in range(16):
        _, state, metrics = _step(ADAPTIVE, OBJECTIVE, policy, batch, state)
    assert 0.01 / 1.5 / 4 < metrics["kl"] < 0.015 * 4
    assert metrics["beta"] < 5e3


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_gradient_that_is_not_finite_is_refused(bad: float):
    policy = gaussian_policy()
    batch = random_batch(policy, jax.random.key(1))
    batch = eqx.tree_at(lambda b: b.advantages, batch, batch.advantages.at[0, 0].set(bad))
    new, _, metrics = step(ADAPTIVE, policy, batch)
    assert identical(new, policy)
    assert metrics["step_accepted"] == metrics["kl"] == 0.0
    assert not jnp.isfinite(metrics["loss"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"beta": 0.0}, "beta is 0.0; it must be a positive number"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"target_kl": 0.0}, "target-kl is 0.0; it must be a positive number, or none"),
        ({"backtrack_ratio": 1.0}, "backtrack-ratio is 1.0; it must be above 0 and below 1"),
        ({"max_backtracks": -1}, "max-backtracks is -1; it must be 0 or more"),
        ({"cg_iterations": 0}, "cg-iterations is 0; it must be 1 or more"),
        ({"damping": -1.0}, "damping is -1.0; it must be 0 or more"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        TrustRegionPenalty(**options)
