from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.lab import baselines, exact, run
from surefoot.lab.base import Result
from surefoot.lab.baselines import (
    BIASED,
    CAUSAL,
    ESTIMATORS,
    PLAIN,
    UNBIASED,
    Baselines,
    constant_baselines,
    data_of,
    fitted_values,
    others_mean,
)
from surefoot.lab.problems import action_probabilities
from surefoot.lab.sampling import Episodes
from surefoot.options import UserError
from surefoot.theory.policy_gradient import optimal_baseline

SMALL = Baselines(horizon=4, episodes=6, batches=4000)


@pytest.fixture(scope="module")
def result() -> Result:
    return run(SMALL, seed=0)


@pytest.mark.parametrize("i", range(5))
def test_claims(result: Result, i: int):
    assert len(result.claims) == 5
    assert result.claims[i].holds, result.claims[i]


def test_the_table_has_every_estimator_relative_to_the_first(result: Result):
    rows: Any = result.rows
    assert [row[0] for row in rows] == list(ESTIMATORS)
    assert rows[0][0] == PLAIN
    for row in rows:
        np.testing.assert_allclose(row[5], row[4] / rows[0][4])


def test_biases_are_of_the_size_of_chance_and_no_larger(result: Result):
    rows: Any = {row[0]: row[1:] for row in result.rows}
    for name in UNBIASED:
        assert rows[name][0] < 4 * rows[name][1]
    for name in BIASED:
        assert rows[name][0] > 10 * rows[name][1]


def test_the_same_seed_gives_the_same_and_another_one_does_not(result: Result):
    again, other = (run(replace(SMALL, batches=200), seed=s) for s in (0, 1))
    assert again.rows == run(replace(SMALL, batches=200), seed=0).rows
    assert again.rows != other.rows


def test_a_biased_estimator_among_the_unbiased_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(baselines, "UNBIASED", {**UNBIASED, **BIASED})
    assert not run(replace(SMALL, batches=1000)).claims[0].holds


@pytest.mark.usefixtures("x64")
def test_variances_are_those_by_enumeration():
    """Of an episode's estimate with known baselines: Σ P(τ) ‖g(τ)‖² − ‖∇J‖²."""
    problem, policy = SMALL.start()
    optimal = constant_baselines(problem, policy).optimal
    paths = exact.all_trajectories(problem)
    chances = paths.probabilities(problem, policy)
    listed = Episodes(paths.states[:, None], paths.actions[:, None], paths.rewards[:, None])
    names = (PLAIN, f"{PLAIN}, constant, exact", f"{PLAIN}, optimal constant, exact", CAUSAL)
    names = (*names, f"{CAUSAL}, of state, exact")

    def of_one(episodes: Episodes) -> dict[str, jax.Array]:
        data = data_of(problem, policy, optimal, episodes)
        return {name: ESTIMATORS[name](data) for name in names}

    each = jax.jit(jax.vmap(of_one))(listed)
    truth = exact.policy_gradient(problem, policy).table.reshape(-1)
    table: Any = {row[0]: row[1:] for row in run(SMALL, seed=0).rows}
    for name in names:
        np.testing.assert_allclose(chances @ each[name], truth, atol=1e-12)
        variance = chances @ jnp.sum(each[name] ** 2, axis=1) - truth @ truth
        # 24,000 episodes: a relative standard error of about 1%.
        np.testing.assert_allclose(table[name][3], variance, rtol=0.06)


@pytest.mark.usefixtures("x64")
def test_the_optimal_constant_is_the_minimum_of_each_parabola():
    spread = constant_baselines(*SMALL.start(), count=201)
    lowest = spread.constants[jnp.argmin(spread.variances, axis=0)]
    step = spread.constants[1] - spread.constants[0]
    np.testing.assert_array_less(jnp.abs(lowest - spread.optimal), step)
    assert (spread.least <= spread.variances.min(axis=0) * (1 + 1e-12)).all()
    # It differs from state to state: one constant would not do.
    assert spread.optimal.max() - spread.optimal.min() > 0.1


@pytest.mark.usefixtures("x64")
def test_what_estimators_see_by_hand():
    problem, policy = Baselines(horizon=2).start()
    steps = Episodes(
        jnp.array([[0, 1], [0, 0]]), jnp.array([[1, 1], [0, 0]]), jnp.array([[0.0, 1], [0.2, 0.2]])
    )
    data = data_of(problem, policy, jnp.zeros(6), steps)
    np.testing.assert_allclose(data.forward, [[0.9, 1.0], [0.38, 0.2]])
    np.testing.assert_allclose(data.returns, [0.9, 0.38])
    np.testing.assert_allclose(data.past, [1.0, 0.9])
    np.testing.assert_array_equal(data.visited[0], jnp.eye(3)[jnp.array([0, 1])])
    values = exact.solve(problem, action_probabilities(problem, policy)).values
    np.testing.assert_allclose(data.values, [[values[0, 0], values[1, 1]], [values[0, 0], values[1, 0]]])
    # Both were in state 0 first, and nobody else where each of them went.
    np.testing.assert_allclose(fitted_values(data, leave_one_out=True), [[0.38, 0.0], [0.9, 0.0]])
    np.testing.assert_allclose(fitted_values(data, leave_one_out=False), [[0.64, 1.0], [0.64, 0.2]])


def test_the_mean_of_the_others():
    np.testing.assert_array_equal(others_mean(jnp.array([1.0, 2.0, 6.0])), [4.0, 3.5, 1.5])
    np.testing.assert_array_equal(others_mean(jnp.array([[1.0, 0.0], [3.0, 2.0]])), [[3.0, 2.0], [1.0, 0.0]])


def test_roots_of_probabilities_weigh_the_optimal_baseline():
    scores, returns = jnp.array([[1.0], [2.0]]), jnp.array([3.0, 6.0])
    chances = jnp.array([0.75, 0.25])
    weighted = optimal_baseline(jnp.sqrt(chances)[:, None] * scores, returns)
    np.testing.assert_allclose(weighted, [(0.75 * 3 + 0.25 * 4 * 6) / (0.75 + 0.25 * 4)], rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"horizon": 1}, {"horizon": 7}, {"episodes": 1}, {"batches": 10}], ids=lambda o: next(iter(o))
)
def test_bad_options(options: dict[str, int]):
    with pytest.raises(UserError, match=next(iter(options))):
        Baselines(**options)
