from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import exact, run
from surefoot.lab.base import Result
from surefoot.lab.importance import WEIGHTS, ImportanceWeights, Place, mean_kl, second_moment, start
from surefoot.lab.importance_estimators import MARGINAL, UNBIASED, Data, data_of
from surefoot.lab.sampling import Episodes
from surefoot.options import UserError
from surefoot.theory.importance import trajectory_weight

SMALL = ImportanceWeights(horizons=(4, 8), distances=(0.5, 1.0, 2.0), episodes=25, batches=1000)


@pytest.fixture(scope="module")
def result() -> Result:
    return run(SMALL, seed=0)


@pytest.mark.parametrize("i", range(6))
def test_claims(result: Result, i: int):
    assert len(result.claims) == 6
    assert result.claims[i].holds, result.claims[i]


def test_the_table_has_every_place_once_and_every_kind_of_weights(result: Result):
    places = [(4, 1.0), (8, 1.0), (4, 0.5), (4, 2.0)]
    assert [(row[0], row[1], row[3]) for row in result.rows] == [
        (*p, name) for p in places for name in WEIGHTS
    ]


def test_only_the_exact_weights_are_within_four_standard_errors(result: Result):
    for row in result.rows:
        bias, error = float(row[4]), float(row[5])
        if row[3] in UNBIASED:
            assert bias < 4 * error
        if row[3] == MARGINAL:
            assert bias > 10 * error


def test_clipping_raises_the_sample_size_and_normalising_keeps_it(result: Result):
    sizes: Any = {(row[0], row[1], row[3]): row[7] for row in result.rows}
    for horizon, distance in [(4, 1.0), (8, 1.0), (4, 2.0)]:
        for kind in UNBIASED:
            plain = sizes[horizon, distance, kind]
            assert sizes[horizon, distance, f"{kind}, clipped"] > plain
            np.testing.assert_allclose(sizes[horizon, distance, f"{kind}, self-normalised"], plain)


def test_the_sample_size_is_that_of_theory_where_episodes_are_many():
    many = ImportanceWeights(horizons=(2, 4), episodes=2000, batches=100)
    with jax.enable_x64(True):
        found = many.judge(Place(4, 1.0), seed=0)
        predicted = 1 / second_moment(*start(Place(4, 1.0)))
    np.testing.assert_allclose(found["trajectory"].sample_size, predicted, rtol=0.02)


def listed(horizon: int, distance: float) -> tuple[Any, jax.Array, Data]:
    """The problem and its policies, the old policy's probabilities, and each trajectory as a batch."""
    place = start(Place(horizon, distance))
    paths = exact.all_trajectories(place[0])
    episodes = Episodes(paths.states[:, None], paths.actions[:, None], paths.rewards[:, None])
    data = jax.vmap(lambda e: data_of(*place, e))(episodes)
    return place, paths.probabilities(*place[:2]), data


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", UNBIASED)
def test_the_exact_weights_are_unbiased_by_enumeration(kind: str):
    (problem, _, new), chances, data = listed(4, 2.0)
    each = jax.jit(jax.vmap(lambda d: d.gradient(kind, d.weights(kind))))(data)
    truth = exact.policy_gradient(problem, new).table.reshape(-1)
    np.testing.assert_allclose(chances @ each, truth, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_weights_on_actions_and_rewards_are_those_on_the_rewards_alone():
    _, _, data = listed(4, 2.0)
    kind = "per decision"
    on_rewards = jax.jit(jax.vmap(lambda d: d.gradient(kind, d.weights(kind))))(data)
    on_both = jax.jit(jax.vmap(lambda d: d.causal_gradient()))(data)
    np.testing.assert_allclose(on_both, on_rewards, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_marginal_weight_is_biased_by_as_much_as_measured(result: Result):
    (problem, _, new), chances, data = listed(4, 2.0)
    each = jax.jit(jax.vmap(lambda d: d.gradient(MARGINAL, d.weights(MARGINAL))))(data)
    truth = exact.policy_gradient(problem, new).table.reshape(-1)
    bias = jnp.linalg.norm(chances @ each - truth) / jnp.linalg.norm(truth)
    (row,) = (row for row in result.rows if row[:2] == (4, 2.0) and row[3] == MARGINAL)
    assert abs(float(row[4]) - bias) < 4 * float(row[5])


@pytest.mark.usefixtures("x64")
def test_all_weights_are_one_at_the_old_policy():
    (problem, old, _), chances, data = listed(3, 0.0)
    truth = exact.policy_gradient(problem, old).table.reshape(-1)
    kinds = (*UNBIASED, MARGINAL)
    weights, each = jax.jit(
        jax.vmap(lambda d: ([d.weights(k) for k in kinds], [d.gradient(k, d.weights(k)) for k in kinds]))
    )(data)
    np.testing.assert_allclose(weights, 1.0, rtol=1e-12)
    for gradients in each:
        np.testing.assert_allclose(chances @ gradients, truth, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_second_moment_by_enumeration_and_its_growth():
    place, chances, data = listed(4, 1.0)
    log_ratios = (data.log_probs - data.old_log_probs)[:, 0]
    weights = jax.vmap(trajectory_weight)(log_ratios)
    np.testing.assert_allclose(second_moment(*place), chances @ weights**2, rtol=1e-12)
    # Both policies are the same in every state: each step multiplies it by E[ρ²].
    p = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(second_moment(*place), (2 * p**2 + 2 * (1 - p) ** 2) ** 4, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_divergence_by_hand():
    p = 1 / (1 + np.exp(-2.0))
    kl = -0.5 * (np.log(2 * p) + np.log(2 * (1 - p)))
    np.testing.assert_allclose(mean_kl(*start(Place(4, 2.0))), kl, rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"horizons": (4,)},
        {"horizons": (0, 4)},
        {"horizons": (8, 4)},
        {"distances": (1.0,)},
        {"distances": (-1.0, 1.0)},
        {"limit": 0.0},
        {"episodes": 1},
        {"batches": 10},
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any]):
    with pytest.raises(UserError, match=next(iter(options))):
        ImportanceWeights(**options)
