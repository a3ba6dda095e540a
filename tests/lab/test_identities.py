"""What the experiment claims, with another seed and as numbers; and that it notices where it is not so."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.optimize

from surefoot.lab import Identities, run
from surefoot.lab.exact import OBJECTIVE
from surefoot.lab.identities import GREEDY, NATURAL, PLAIN, EuclideanSurrogate, Measured, step_of
from surefoot.lab.optima import Setup, best_response, dense_model, penalised_optimum, stationarity
from surefoot.lab.problems import SoftmaxTable
from surefoot.rules import GradientStep, NaturalGradient, TrustRegion

EXPERIMENT = Identities(states=3, betas=(1e-5, 1e-4, 0.1, 1e3, 1e4))


@pytest.fixture(scope="module")
def found() -> Measured:
    with jax.enable_x64(True):
        return EXPERIMENT.compare(1)


@pytest.fixture(scope="module")
def setup(found: Measured) -> Setup:
    return found.setup


def test_every_claim_holds():
    result = run(EXPERIMENT, seed=0)
    assert [claim for claim in result.claims if not claim.holds] == []
    assert len(result.claims) == 8
    assert len(result.rows) == 5
    assert result.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("beta", [0.5, 10.0])
def test_a_fisher_penalty_is_the_natural_gradient(setup: Setup, beta: float, x64: None):
    gradient, fisher = dense_model(setup)
    model = scipy.optimize.minimize(
        lambda s: -gradient @ s + 0.5 * beta * s @ fisher @ s,
        np.zeros(len(gradient)),
        jac=lambda s: -gradient + beta * fisher @ s,
        options={"gtol": 1e-12},
    )
    rule = NaturalGradient(lr=1 / beta, damping=0.0, cg_iterations=50, cg_tolerance=1e-14)
    step = step_of(rule, OBJECTIVE, setup.policy, setup.batch).reshape(-1)
    np.testing.assert_allclose(step, model.x, atol=1e-6 * np.abs(step).max())
    assert np.linalg.norm(step) > 1e-3


def test_a_fisher_constraint_is_a_natural_gradient_of_another_length(setup: Setup, x64: None):
    rule = TrustRegion(max_kl=1e-8, damping=0.0, cg_iterations=50, cg_tolerance=1e-14)
    step = step_of(rule, OBJECTIVE, setup.policy, setup.batch).reshape(-1)
    natural = setup.natural.reshape(-1)
    cosine = step @ natural / np.linalg.norm(step) / np.linalg.norm(natural)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-9)


@pytest.mark.parametrize("beta", [0.5, 10.0])
def test_a_euclidean_penalty_is_the_plain_gradient(setup: Setup, beta: float, x64: None):
    gradient, _ = dense_model(setup)
    step = step_of(GradientStep(lr=1 / beta), OBJECTIVE, setup.policy, setup.batch)
    np.testing.assert_allclose(step.reshape(-1), gradient / beta, atol=1e-12)
    rule = NaturalGradient(lr=1 / beta, damping=0.0)
    np.testing.assert_allclose(
        step_of(rule, EuclideanSurrogate(), setup.policy, setup.batch), step, atol=1e-12
    )
    natural = setup.natural / beta
    assert np.abs(natural - step).max() > 0.1 * np.abs(step).max(), "the metric matters"


def test_no_constraint_is_policy_iteration(found: Measured, setup: Setup):
    gains = np.asarray(setup.batch.gains)
    greedy = np.eye(EXPERIMENT.actions)[gains.argmax(axis=-1)]
    np.testing.assert_allclose(best_response(gains), greedy, atol=1e-9)
    assert len(found.iteration) > 2
    np.testing.assert_allclose(found.unconstrained, found.iteration, atol=1e-6)


def test_without_constraint_gradient_ascent_on_the_surrogate_ends_greedy_too(setup: Setup, x64: None):
    rule, objective = GradientStep(lr=100.0), OBJECTIVE

    def step(policy: SoftmaxTable, _: None) -> tuple[SoftmaxTable, None]:
        return rule.step(objective, policy, setup.batch, rule.init(policy))[0], None

    ascend = jax.jit(lambda policy: jax.lax.scan(step, policy, length=2000)[0])
    reached = ascend(setup.policy).probabilities
    np.testing.assert_allclose(reached, best_response(np.asarray(setup.batch.gains)), atol=1e-2)


@pytest.mark.parametrize("beta", [1e-3, 0.1, 10.0])
def test_the_penalised_optimum_is_one(setup: Setup, beta: float, x64: None):
    optimum = penalised_optimum(setup, beta)
    np.testing.assert_allclose(optimum.sum(axis=-1), 1.0, rtol=1e-9)
    assert stationarity(setup, [beta], [optimum]) < 1e-8
    nudged = optimum * np.array([1.05, 1.0, 1.0])
    assert stationarity(setup, [beta], [nudged / nudged.sum(axis=-1, keepdims=True)]) > 1e-6


def test_its_ends_are_the_natural_step_and_the_greedy_policy(found: Measured):
    distances = found.distances
    assert distances[NATURAL][-1] < 1e-3
    assert distances[PLAIN][-1] < 1e-3
    assert distances[GREEDY][0] < 1e-3
    # Each is of first order in β or 1/β.
    for far, near in [
        (distances[NATURAL][-2], distances[NATURAL][-1]),
        (distances[PLAIN][-2], distances[PLAIN][-1]),
        (distances[GREEDY][1], distances[GREEDY][0]),
    ]:
        np.testing.assert_allclose(far / near, 10.0, rtol=0.05)
    assert distances[GREEDY][-1] > 0.1
    assert distances[NATURAL][2] > 0.01


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"natural": 1.001}, "Fisher penalty"),
        ({"plain": 1.001}, "Euclidean penalty: gᵀs"),
    ],
)
def test_a_claim_that_is_not_so_is_found_out(
    found: Measured, change: dict[str, float], broken: str, x64: None
):
    ((name, factor),) = change.items()
    wrong = dataclasses.replace(
        found,
        setup=dataclasses.replace(found.setup, **{name: factor * getattr(found.setup, name)}),
        optima=[np.full_like(found.optima[0], 1 / 3)] * len(found.optima),
        unconstrained=[x + 1e-5 for x in found.unconstrained],
    )
    failed = [claim.statement for claim in EXPERIMENT._claims(wrong) if not claim.holds]
    assert any(statement.startswith(broken) for statement in failed)
    assert any(statement.startswith("No constraint") for statement in failed)
    assert any("stationary" in statement for statement in failed)
    assert not np.isnan(found.distances[NATURAL]).any()
