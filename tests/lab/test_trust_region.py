"""What the experiment claims, with another seed and as numbers; and that it notices where it is not so."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import TrustRegionSteps, run
from surefoot.lab.exact import solve
from surefoot.lab.trust_region import Outcome, penalty_coefficient
from surefoot.options import UserError

EXPERIMENT = TrustRegionSteps()


@pytest.fixture(scope="module")
def measured() -> Any:
    with jax.enable_x64(True):
        return EXPERIMENT.compare(1)


def test_every_claim_holds():
    result = run(EXPERIMENT, seed=0)
    assert [claim for claim in result.claims if not claim.holds] == []
    assert len(result.claims) == 7
    assert len(result.rows) == len(EXPERIMENT.deltas) + 1
    assert result.png().startswith(b"\x89PNG")


def test_the_quadratic_model_of_the_kl_is_what_the_step_was_made_for(measured: Any):
    full, *_ = measured
    np.testing.assert_allclose(full.predicted_kl, EXPERIMENT.deltas, rtol=1e-9)


def test_predictions_become_exact_as_the_step_shrinks(measured: Any):
    full, *_ = measured
    pairs = [(full.kl, full.predicted_kl), (full.surrogate, full.linear), (full.gain, full.linear)]
    for actual, predicted in pairs:
        error = np.abs(actual / predicted - 1)
        assert error[0] < 1e-2
        # The first term that is left out is of the next order in the step, which grows with √δ.
        np.testing.assert_allclose(error[1] / error[0], np.sqrt(10), rtol=0.1)
        assert error[-2] > 0.05, "a long step is not what the model says"


def test_the_rule_keeps_its_steps_in_the_region_and_improves_the_return(measured: Any):
    full, taken, start, best = measured
    assert np.all(taken.kl <= EXPERIMENT.max_kl * (1 + 1e-9))
    assert np.all(taken.gain > 0)
    assert taken.value[-1] >= best - 1e-3 * (best - start)
    assert np.sum(taken.attempts > 1) > 3
    outside = np.array(EXPERIMENT.deltas) >= 1e-3
    assert np.all(full.kl[outside] > full.predicted_kl[outside]), "the line search was needed"


def test_the_bound_holds_and_needs_its_penalty(measured: Any):
    full, taken, *_ = measured
    assert np.all(full.gain >= full.bound)
    assert np.all(taken.gain >= taken.bound)
    assert np.any(taken.gain < taken.surrogate), "without the penalty it would not hold"


def test_the_coefficient_of_the_penalty_by_hand(x64: None):
    problem, policy = EXPERIMENT.start(1)
    exact = solve(problem, policy.probabilities)
    largest = float(jnp.max(jnp.abs(exact.advantages)))
    np.testing.assert_allclose(penalty_coefficient(problem, exact), 360 * largest, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"kl": lambda x: 1.2 * x.predicted_kl}, ["KL to", "trust region"]),
        ({"surrogate": lambda x: 2 * x.surrogate}, ["surrogate to"]),
        ({"gain": lambda x: -x.gain}, ["true improvement to", "grows"]),
        ({"bound": lambda x: x.gain + 1.0}, ["theorem 1"]),
        ({"value": lambda x: x.value - 5.0}, ["gap"]),
    ],
)
def test_a_claim_that_is_not_so_is_found_out(measured: Any, change: Any, broken: list[str]):
    full, taken, start, best = measured
    (name, make), *_ = change.items()

    def tampered(x: Outcome) -> Outcome:
        return eqx.tree_at(lambda outcome: getattr(outcome, name), x, make(x))

    claims = EXPERIMENT._claims(tampered(full), tampered(taken), start, best)
    failed = [claim.statement for claim in claims if not claim.holds]
    assert all(any(word in statement for statement in failed) for word in broken)
    assert all(claim.holds for claim in EXPERIMENT._claims(full, taken, start, best))


def test_wrong_options_are_refused():
    with pytest.raises(UserError, match=r"gap is 0\.0"):
        TrustRegionSteps(gap=0.0)
    for deltas in ((1.0, 0.1), (-1.0, 0.1)):
        with pytest.raises(UserError, match="deltas is"):
            TrustRegionSteps(deltas=deltas)
    with pytest.raises(UserError, match="seed is -1"):
        run(TrustRegionSteps(), seed=-1)
