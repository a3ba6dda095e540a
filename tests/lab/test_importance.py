from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import exact, run
from surefoot.lab.base import Result
from surefoot.lab.importance import WEIGHTS, ImportanceWeights, Setting, mean_kl, second_moment, start
from surefoot.lab.importance_estimators import MARGINAL, UNBIASED, Data, data_of
from surefoot.options import UserError
from surefoot.theory.importance import trajectory_weight, weighted_reward_to_go

SMALL = ImportanceWeights(horizons=(4, 8), distances=(0.5, 1.0, 2.0), episodes=25, batches=1000)


@pytest.fixture(scope="module")
def result() -> Result:
    return run(SMALL, seed=0)


@pytest.mark.parametrize("i", range(6))
def test_claims(result: Result, i: int):
    assert len(result.claims) == 6
    assert result.claims[i].holds, result.claims[i]


def test_the_figure_can_be_drawn(result: Result):
    assert result.png().startswith(b"\x89PNG")


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
        found = many.compare(Setting(4, 1.0), seed=0)
        predicted = 1 / second_moment(*start(Setting(4, 1.0)))
    np.testing.assert_allclose(found["trajectory"].sample_size, predicted, rtol=0.02)


KINDS = (*UNBIASED, MARGINAL)


def weighted_reward_to_go_of(data: Data) -> jax.Array:
    ratios = jnp.exp(data.log_probs - data.old_log_probs)
    return jax.vmap(weighted_reward_to_go, (0, None, 0))(data.rewards, data.discounts, ratios)


@jax.jit
@jax.vmap
def weights_and_gradients(data: Data) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    weights = {kind: data.weights(kind) for kind in KINDS}
    gradients = {kind: data.gradient(kind, w) for kind, w in weights.items()}
    # The same in another form: the past's weights on the action, and the future's on the rewards.
    to_go = weighted_reward_to_go_of(data)
    return weights, gradients | {"causal": data._gradient(weights["per-decision"] * to_go)}


@cache
def listed(distance: float) -> Any:
    """The problem and its policies, the gradient, and of each trajectory as a batch: its probability, log
    ratios, weights and gradients."""
    with jax.enable_x64(True):
        problem, old, new = start(Setting(4, distance))
        episodes, chances = exact.all_trajectories(problem, old)
        batches = jax.tree.map(lambda x: x[:, None], episodes)
        data = jax.vmap(lambda e: data_of(problem, old, new, e))(batches)
        log_ratios = (data.log_probs - data.old_log_probs)[:, 0]
        truth = np.asarray(exact.policy_gradient(problem, new))
        return (problem, old, new), truth, np.asarray(chances), log_ratios, *weights_and_gradients(data)


@pytest.mark.parametrize("kind", UNBIASED)
def test_the_exact_weights_are_unbiased_by_enumeration(kind: str):
    _, truth, chances, _, _, gradients = listed(2.0)
    np.testing.assert_allclose(chances @ np.asarray(gradients[kind]), truth, atol=1e-12)


def test_weights_on_actions_and_rewards_are_those_on_the_rewards_alone():
    *_, gradients = listed(2.0)
    np.testing.assert_allclose(gradients["causal"], gradients["per-decision"], atol=1e-12)


def test_the_marginal_weight_is_biased_by_as_much_as_measured(result: Result):
    _, truth, chances, _, _, gradients = listed(2.0)
    bias = np.linalg.norm(chances @ np.asarray(gradients[MARGINAL]) - truth) / np.linalg.norm(truth)
    (row,) = (row for row in result.rows if tuple(row[:2]) == (4, 2.0) and row[3] == MARGINAL)
    assert abs(float(row[4]) - bias) < 4 * float(row[5])


def test_all_weights_are_one_at_the_old_policy():
    _, truth, chances, _, weights, gradients = listed(0.0)
    for kind in KINDS:
        np.testing.assert_allclose(weights[kind], 1.0, rtol=1e-12)
        np.testing.assert_allclose(chances @ np.asarray(gradients[kind]), truth, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_second_moment_by_enumeration_and_its_growth():
    place, _, chances, log_ratios, *_ = listed(1.0)
    weights = jax.vmap(trajectory_weight)(log_ratios)
    np.testing.assert_allclose(second_moment(*place), chances @ weights**2, rtol=1e-12)
    # Both policies are the same in every state: each step multiplies it by E[ρ²].
    p = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(second_moment(*place), (2 * p**2 + 2 * (1 - p) ** 2) ** 4, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_divergence_by_hand():
    p = 1 / (1 + np.exp(-2.0))
    kl = -0.5 * (np.log(2 * p) + np.log(2 * (1 - p)))
    np.testing.assert_allclose(mean_kl(*start(Setting(4, 2.0))), kl, rtol=1e-12)


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
