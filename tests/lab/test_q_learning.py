"""The claims at a small size, and that the experiment notices where they are not so."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import QLearning, run
from surefoot.lab.exact import policy_iteration
from surefoot.lab.problems import chain
from surefoot.lab.q_learning import Curve
from surefoot.options import UserError

SMALL = QLearning(seeds=4, rates=(1.0,))


def test_every_claim_holds():
    result = run(SMALL, seed=1)
    assert [claim.measured for claim in result.claims if not claim.holds] == []
    assert len(result.claims) == 5
    assert len(result.rows) == 2
    assert result.png().startswith(b"\x89PNG")


def test_q_learning_comes_nearer_to_the_best_values_with_more_transitions(x64: None):
    problem = chain(SMALL.horizon, SMALL.discount)
    start = jnp.full((3, 2), 0.5)
    best = policy_iteration(replace(problem, horizon=None), start)[-1].action_values[0]
    found = SMALL.learn_values(problem, best, jax.random.split(jax.random.key(5), 3))
    errors = found.errors.mean(axis=0)
    assert errors[-1] < errors[10] / 3 < errors[0] / 3


def test_the_points_that_are_needed_by_hand():
    # 95% of the gap from 0 to 10 is 9.5; the second seed falls back once, the third never gets there.
    values = np.array([[1.0, 9.6, 9.7], [9.9, 1.0, 9.8], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(Curve(values, values).needed(0.0, 10.0), [2, 3, np.inf])


def test_a_claim_that_is_not_so_is_found_out():
    best = jnp.array([[1.0, 10.0]])
    good = Curve(np.array([[5.0, 10.0]]), np.array([[5.0, 0.1]]))
    slow = Curve(np.array([[1.0, 1.0]]), np.full((1, 2), np.nan))
    assert all(claim.holds for claim in SMALL._claims(good, slow, best, 0.0, 10.0))
    bad = Curve(np.array([[1.0, 1.0]]), np.array([[5.0, 5.0]]))
    holds = [claim.holds for claim in SMALL._claims(bad, good, best, 0.0, 10.0)]
    assert holds == [False, False, False, True, True]


def test_wrong_options_are_refused():
    with pytest.raises(UserError, match=r"rates is \(\); it must be at least one rate"):
        QLearning(rates=())
