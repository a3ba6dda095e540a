"""What the experiment claims, with another seed and as numbers; and that it notices where it is not so."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import BadScaling, run
from surefoot.lab.exact import OBJECTIVE, exact_batch, policy_gradient, policy_iteration
from surefoot.lab.problems import two_states
from surefoot.options import UserError
from surefoot.rules import GradientStep

EXPERIMENT = BadScaling(conditions=(1.0, 10.0), rates=(1.0, 10.0, 31.0, 100.0), steps=400)


@pytest.fixture(scope="module")
def measured() -> Any:
    with jax.enable_x64(True):
        problem, policies = two_states(), EXPERIMENT.parametrisations(1)
        natural = [EXPERIMENT.follow_natural(problem, policy, 18.4) for policy in policies]
        plain = [EXPERIMENT.follow_plain(problem, policy, 18.4) for policy in policies]
        return natural, plain


def test_every_claim_holds():
    result = run(EXPERIMENT, seed=0)
    assert [claim for claim in result.claims if not claim.holds] == []
    assert len(result.claims) == 3
    assert len(result.rows) == 4
    assert result.png().startswith(b"\x89PNG")


def test_the_optimal_return_is_what_the_paths_are_judged_by(x64: None):
    problem = two_states()
    best = policy_iteration(problem, jnp.full((2, 2), 0.5))[-1]
    np.testing.assert_allclose(best.value, 18.4, rtol=1e-12)


def test_every_parametrisation_starts_as_one_policy(x64: None):
    tables = [policy.probabilities for policy in EXPERIMENT.parametrisations(3)]
    np.testing.assert_allclose(tables[1], tables[0], atol=1e-12)
    mixing = np.array(EXPERIMENT.parametrisations(3)[1].mixing)
    np.testing.assert_allclose(np.linalg.cond(mixing), 10.0, rtol=1e-9)
    np.testing.assert_allclose(mixing @ mixing.T, np.diag([1, 1, 0.01, 0.01]), atol=1e-12)


def test_the_natural_path_does_not_depend_on_the_coordinates(measured: Any):
    (table, scaled), _ = measured
    np.testing.assert_allclose(scaled.probabilities, table.probabilities, atol=1e-6)
    assert np.abs(table.probabilities[-1] - table.probabilities[0]).max() > 0.5
    assert table.needed == scaled.needed == 4


def test_the_plain_path_does(measured: Any):
    _, (table, scaled) = measured
    for a, b in zip(table, scaled, strict=True):
        assert np.abs(a.probabilities - b.probabilities).max() > 0.1
    needed = [found.needed for found in table if found.needed]
    assert 10 < min(needed) < 40
    assert all(found.needed is None for found in scaled), "in 400 steps, at any rate"


def test_the_plain_step_is_the_rule_s(x64: None):
    problem = two_states()
    for policy in EXPERIMENT.parametrisations(0):
        rule = GradientStep(lr=3.0)
        new, _, _ = rule.step(OBJECTIVE, policy, exact_batch(problem, policy), rule.init(policy))
        ascent = 3.0 / problem.steps * policy_gradient(problem, policy)
        np.testing.assert_allclose((new.table - policy.table).reshape(-1), ascent, atol=1e-12)


def test_a_claim_that_is_not_so_is_found_out(measured: Any):
    (table, scaled), (plain, _) = measured
    elsewhere = dataclasses.replace(scaled, probabilities=scaled.probabilities + 1e-5)
    slow = dataclasses.replace(table, needed=30)
    quick = plain[1]
    invariant, slower, fewer = EXPERIMENT._claims([table, scaled], [quick, quick])
    assert (invariant.holds, slower.holds, fewer.holds) == (True, False, True)
    invariant, slower, fewer = EXPERIMENT._claims([slow, elsewhere], [quick, quick])
    assert (invariant.holds, slower.holds, fewer.holds) == (False, False, False)


def test_wrong_options_are_refused():
    for conditions in ((10.0, 1.0), (1.0,), (1.0, 10.0, 3.0), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)):
        with pytest.raises(UserError, match="conditions is"):
            BadScaling(conditions=conditions)
    with pytest.raises(UserError, match="rates is"):
        BadScaling(rates=(-1.0,))
