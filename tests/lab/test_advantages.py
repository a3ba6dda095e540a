from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import advantages, exact, run
from surefoot.lab.advantages import AdvantageEstimation, value_errors
from surefoot.lab.base import Result
from surefoot.options import UserError

SMALL = AdvantageEstimation(horizon=4, discounts=(0.7, 1.0), lambdas=(0.0, 0.5, 1.0), episodes=20_000)


@pytest.fixture(scope="module")
def result() -> Result:
    return run(SMALL, seed=0)


@pytest.mark.parametrize("i", range(6))
def test_claims(result: Result, i: int):
    assert len(result.claims) == 6
    assert result.claims[i].holds, result.claims[i]


def test_the_figure_can_be_drawn(result: Result):
    assert result.png().startswith(b"\x89PNG")


def test_the_table_has_every_estimator(result: Result):
    names = [row[:3] for row in result.rows]
    by_gae = [("GAE", discount, decay) for discount in (0.7, 1.0) for decay in (0.0, 0.5, 1.0)]
    assert names == by_gae + [("k-step", 1.0, float(k)) for k in (1, 2, 3, 4)]


def test_the_bias_falls_at_every_step_of_both_curves_and_the_variance_rises(result: Result):
    rows: Any = {row[:3]: row for row in result.rows}
    curves = [[("GAE", 1.0, x) for x in SMALL.lambdas], [("k-step", 1.0, float(k)) for k in (1, 2, 3, 4)]]
    for curve in curves:
        biases, variances = ([rows[key][i] for key in curve] for i in (3, 6))
        assert biases == sorted(biases, reverse=True)
        assert variances == sorted(variances)
        np.testing.assert_allclose(biases[-1], 0.0, atol=1e-10)
        np.testing.assert_allclose(variances[-1], 1.0)


def test_the_ends_of_both_curves_are_the_same_estimators(result: Result):
    rows: Any = {row[:3]: row[3:] for row in result.rows}
    np.testing.assert_allclose(rows["GAE", 1.0, 0.0], rows["k-step", 1.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(rows["GAE", 1.0, 1.0], rows["k-step", 1.0, 4.0], atol=1e-12)


def test_measured_biases_are_within_four_standard_errors_of_the_exact_ones(result: Result):
    for row in result.rows:
        bias, measured, standard_error = (float(x) for x in row[3:6])
        assert abs(measured - bias) < 4 * standard_error


def test_noise_changes_the_variance_alone(result: Result):
    with jax.enable_x64(True):
        calm = replace(SMALL, noise=0.0).compare(seed=0)
    for (name, without), with_noise in zip(calm.items(), result.rows, strict=True):
        assert (*name, without.bias) == with_noise[:4]
        assert without.sample.standard_error < float(with_noise[5])


@pytest.mark.usefixtures("x64")
def test_an_expectation_by_backward_induction():
    """E[δ_t + γλ A_{t+1} | s_t, a_t] from the transition matrix, which knows nothing of trajectories."""
    problem, policy = SMALL.start()
    probabilities = policy.probabilities
    discount, decay = 0.7, 0.5
    solved = exact.solve(replace(problem, discount=discount), probabilities)
    values = jnp.concatenate([solved.values + value_errors(problem, SMALL.value_error), jnp.zeros((1, 3))])
    occupancy = exact.solve(problem, probabilities).occupancy
    advantage, gradient = jnp.zeros((3, 2)), jnp.zeros(6)
    scores = policy.scores
    for t in reversed(range(4)):
        follows = discount * (t < 3)
        mean = jnp.sum(probabilities * advantage, axis=1)
        ahead = problem.mdp.transitions @ (values[t + 1] + decay * mean)
        advantage = problem.mdp.rewards + follows * ahead - values[t][:, None]
        gradient += jnp.einsum("s,sa,sai,sa->i", occupancy[t], probabilities, scores, advantage)
    expected = SMALL.expected()["GAE", discount, decay]
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


def test_values_have_an_error_of_the_size_asked_for_that_no_constant_could_mend():
    errors = value_errors(SMALL.start()[0], 0.3)
    np.testing.assert_allclose(errors.mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(errors**2)), 0.3, rtol=1e-6)


def test_a_short_trace_among_the_unbiased_is_caught(monkeypatch: pytest.MonkeyPatch):
    def short(*args: Any) -> jax.Array:
        return advantages.gae(*args[:-2], args[-2] * 0.9)

    monkeypatch.setattr(advantages, "k_step_advantages", short)
    claims = run(replace(SMALL, episodes=1000)).claims
    assert not claims[0].holds
    assert not claims[3].holds


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 1},
        {"horizon": 7},
        {"discounts": (1.0,)},
        {"discounts": (1.0, 0.5)},
        {"discounts": (0.5, 0.9)},
        {"lambdas": (0.5, 1.0)},
        {"lambdas": (0.0, 0.5)},
        {"noise": -1.0},
        {"value_error": 0.0},
        {"episodes": 10},
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any]):
    with pytest.raises(UserError, match=next(iter(options)).replace("_", "-")):
        AdvantageEstimation(**options)
