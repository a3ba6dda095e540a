from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from surefoot.baselines import (
    AbstractBaseline,
    Constant,
    LinearFeatures,
    Samples,
    TimeDependent,
    ValueNetwork,
    Zero,
)
from surefoot.lab import baselines, exact, run
from surefoot.lab.base import Result
from surefoot.lab.baseline_estimators import (
    BIASED,
    CAUSAL,
    ESTIMATORS,
    EXACT,
    FITTED,
    LIBRARY,
    NETWORK,
    NONE,
    PLAIN,
    TD_NETWORK,
    UNBIASED,
    Data,
    data_of,
    fitted,
    optimal_constant,
    rollout_of,
)
from surefoot.lab.baselines import Baselines, claims, constant_baselines
from surefoot.lab.exact import step_scores
from surefoot.lab.problems import Episodes, Problem
from surefoot.lab.sampling import Quality, draw
from surefoot.options import UserError
from surefoot.theory.policy_gradient import optimal_baseline
from surefoot.theory.returns import reward_to_go

SMALL = Baselines(horizon=4, episodes=6, batches=4000)
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def result() -> Result:
    return run(SMALL, seed=0)


@pytest.mark.parametrize("i", range(7))
def test_claims(result: Result, i: int):
    assert len(result.claims) == 7
    assert result.claims[i].holds, result.claims[i]


def test_the_figure_can_be_drawn(result: Result):
    assert result.png().startswith(b"\x89PNG")


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


def test_every_baseline_of_the_library_is_measured():
    measured = {LinearFeatures, Constant, TimeDependent, ValueNetwork, Zero}
    assert {
        cls for cls in AbstractBaseline.__subclasses__() if cls.__module__.startswith("surefoot.")
    } == measured
    assert {NETWORK.target, TD_NETWORK.target} == {"monte-carlo", "td"}


def test_the_same_seed_gives_the_same_and_another_one_does_not(monkeypatch: pytest.MonkeyPatch):
    few = (PLAIN, f"{CAUSAL}, value-network")
    monkeypatch.setattr(baselines, "ESTIMATORS", {name: ESTIMATORS[name] for name in few})
    with jax.enable_x64(True):
        experiment = replace(SMALL, batches=100)
        first, again, other = (experiment.estimate(jnp.zeros(6), seed) for seed in (0, 0, 1))
    for name in few:
        np.testing.assert_array_equal(first[name], again[name])
        spread = [SMALL.episodes * np.trace(np.cov(x[name], rowvar=False)) for x in (first, other)]
        assert abs(spread[1] - spread[0]) > 1e-4


def test_what_the_claims_deny(result: Result, monkeypatch: pytest.MonkeyPatch):
    rows: Any = result.rows
    found = {row[0]: Quality(*row[1:5]) for row in rows}
    spread = constant_baselines(*SMALL.start())
    worse = {**found, f"{CAUSAL}, time-dependent": replace(found[CAUSAL], variance=found[CAUSAL].variance)}
    assert [claim.holds for claim in claims(worse, spread)[2:3]] == [False]
    monkeypatch.setattr(baselines, "UNBIASED", ESTIMATORS)
    monkeypatch.setattr(baselines, "BIASED", ESTIMATORS)
    assert [claim.holds for claim in claims(found, spread)[:3]] == [False, False, True]


def listed(problem: Problem) -> tuple[Episodes, Array]:
    """Every episode as a batch of one, and their probabilities."""
    episodes, chances = exact.all_trajectories(problem, SMALL.start()[1])
    return jax.tree.map(lambda x: x[:, None], episodes), chances


@pytest.fixture(scope="module")
def enumerated() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The gradient, each episode's probability, and each estimator's estimate from it as a batch of one."""
    fitted_to_others = {name: LIBRARY[name] for name in LIBRARY if "cross-fit" not in name}
    estimators = {**ESTIMATORS, **{name: fitted(name, Zero(), "same-batch") for name in NONE}}
    with jax.enable_x64(True):
        problem, policy = SMALL.start()
        optimal = constant_baselines(problem, policy).optimal
        others = rollout_of(problem, draw(problem, policy, KEY, (5,)))
        one, chances = listed(problem)

        @jax.jit
        @jax.vmap
        def of_each(episodes: Episodes) -> dict[str, Array]:
            data = data_of(problem, policy, optimal, episodes, KEY)
            data = eqx.tree_at(lambda d: d.others, data, others)
            return {name: estimators[name](data) for name in (*NONE, *EXACT, *fitted_to_others)}

        estimates = {name: np.asarray(x) for name, x in of_each(one).items()}
        return np.asarray(exact.policy_gradient(problem, policy)), np.asarray(chances), estimates


def test_variances_are_those_by_enumeration(result: Result, enumerated: Any):
    """Of an episode's estimate with known baselines: Σ P(τ) ‖g(τ)‖² − ‖∇J‖²."""
    truth, chances, estimates = enumerated
    table: Any = {row[0]: row[1:] for row in result.rows}
    for name in (*NONE, *EXACT):
        variance = chances @ np.sum(estimates[name] ** 2, axis=1) - truth @ truth
        # 24,000 episodes: a relative standard error of about 1%.
        np.testing.assert_allclose(table[name][3], variance, rtol=0.06)


def test_known_baselines_and_those_fitted_to_other_episodes_are_unbiased_by_enumeration(enumerated: Any):
    truth, chances, estimates = enumerated
    assert len(estimates) == len(NONE) + len(EXACT) + len(LIBRARY) - 1
    for estimate in estimates.values():
        np.testing.assert_allclose(chances @ estimate, truth, atol=1e-12)


def drawn(episodes: int = 4) -> tuple[Data, Episodes]:
    """So many judged episodes, and as many others but one."""
    problem, policy = SMALL.start()
    found = draw(problem, policy, KEY, (2 * episodes - 1,))
    return data_of(problem, policy, jnp.zeros(6), found, KEY), found


def samples(problem: Problem, episodes: Episodes, *, whole: bool = False) -> Samples:
    """What a baseline learns from, put together by hand."""
    observations = problem.observations[episodes.states]
    shape = episodes.rewards.shape
    returns = jax.vmap(reward_to_go, (0, None))(episodes.rewards, problem.discounts)
    return Samples(
        observations,
        jnp.broadcast_to(jnp.arange(shape[1], dtype=returns.dtype), shape),
        jnp.broadcast_to(returns[:, :1], shape) if whole else returns,
        episodes.rewards,
        jnp.broadcast_to(problem.discounts, shape),
        jnp.concatenate([observations[:, 1:], observations[:, :1]], axis=1),
        jnp.ones(shape, bool),
    )


BY_HAND: dict[str, tuple[str, AbstractBaseline, Any]] = {
    "constant": (PLAIN, Constant(), "previous-batch"),
    "causal constant": (CAUSAL, Constant(), "previous-batch"),
    "time": (CAUSAL, TimeDependent(), "previous-batch"),
    "features": (CAUSAL, LinearFeatures(), "previous-batch"),
    "cross-fitted features": (CAUSAL, LinearFeatures(), "cross-fit"),
    "features of the same": (CAUSAL, LinearFeatures(), "same-batch"),
    "network": (CAUSAL, NETWORK, "previous-batch"),
    "network by TD": (CAUSAL, TD_NETWORK, "previous-batch"),
}


def by_hand(data: Data, episodes: Episodes, credit: str, baseline: AbstractBaseline, fit: str) -> Array:
    problem, policy = SMALL.start()
    batch, others = (jax.tree.map(lambda x, s=s: x[s], episodes) for s in (slice(4), slice(4, None)))
    whole = credit == PLAIN
    with jax.ensure_compile_time_eval():  # As in the estimator: a network starts by LAPACK's QR.
        start = baseline.init(KEY, 3, 4)

    def values(of: Episodes, to: Episodes) -> Array:
        learned = baseline.fit(start, samples(problem, to, whole=whole))
        seen = samples(problem, of)
        return jax.vmap(lambda x, t: baseline.values(learned, x, t))(seen.observations, seen.times)

    halves = [jax.tree.map(lambda x, s=s: x[s], batch) for s in (slice(2), slice(2, None))]
    by_fit: dict[str, Callable[[], Array]] = {
        "previous-batch": lambda: values(batch, others),
        "same-batch": lambda: values(batch, batch),
        "cross-fit": lambda: jnp.concatenate([values(*halves), values(*halves[::-1])]),
    }
    weights = jnp.ones(4) if whole else problem.discount_powers
    advantages = weights * (samples(problem, batch, whole=whole).returns - by_fit[fit]())
    return jnp.einsum("ntp,nt->p", step_scores(policy, batch), advantages) / 4


@pytest.fixture(scope="module")
def estimates() -> tuple[dict[str, Array], dict[str, Array]]:
    """The estimates of the library and those by hand, in one program."""

    @jax.jit
    def both() -> tuple[dict[str, Array], dict[str, Array]]:
        found = {name: fitted(*options)(data) for name, options in BY_HAND.items()}
        return found, {name: by_hand(data, episodes, *options) for name, options in BY_HAND.items()}

    with jax.enable_x64(True):
        data, episodes = drawn()
        return both()


@pytest.mark.parametrize("name", BY_HAND)
def test_estimates_with_the_librarys_baselines_by_hand(estimates: Any, name: str):
    found, expected = estimates
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_optimal_constants_by_hand():
    data, episodes = drawn()
    problem, _ = SMALL.start()
    scores = np.asarray(data.scores.sum(axis=1))
    returns = np.asarray(samples(problem, episodes).returns[:4, 0])

    def estimate(of: Callable[[int], list[int]]) -> np.ndarray:
        """With the baseline of each episode taken from the episodes `of` it."""
        terms = []
        for i in range(4):
            s, r = scores[of(i)], returns[of(i)]
            totals = (s**2).sum(axis=0)
            b = np.where(totals > 0, (s**2 * r[:, None]).sum(axis=0) / np.where(totals > 0, totals, 1), 0)
            terms.append(scores[i] * (returns[i] - b))
        return np.mean(terms, axis=0)

    others = estimate(lambda i: [j for j in range(4) if j != i])
    np.testing.assert_allclose(optimal_constant("others")(data), others, atol=1e-12)
    np.testing.assert_allclose(optimal_constant("same")(data), estimate(lambda _: [0, 1, 2, 3]), atol=1e-12)
    plain = (scores * returns[:, None]).mean(axis=0)
    np.testing.assert_allclose(optimal_constant("exact")(data), plain, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_optimal_constant_is_the_minimum_of_each_parabola():
    spread = constant_baselines(*SMALL.start(), count=201)
    lowest = spread.constants[jnp.argmin(spread.variances, axis=0)]
    step = spread.constants[1] - spread.constants[0]
    np.testing.assert_array_less(jnp.abs(lowest - spread.optimal), step)
    assert (spread.least <= spread.variances.min(axis=0) * (1 + 1e-12)).all()
    # It differs from state to state: one constant would not do.
    assert spread.optimal.max() - spread.optimal.min() > 0.1


def test_what_estimators_see_by_hand():
    problem, policy = Baselines(horizon=2).start()
    steps = Episodes(
        jnp.array([[0, 1], [0, 0], [0, 1]]),
        jnp.array([[1, 1], [0, 0], [1, 0]]),
        jnp.array([[0.0, 1.0], [0.2, 0.2], [0.0, 0.0]]),
    )
    data = data_of(problem, policy, jnp.zeros(6), steps, KEY)
    np.testing.assert_array_equal(data.batch.rewards, steps.rewards[:2])
    np.testing.assert_array_equal(data.others.actions, [[1, 0]])
    np.testing.assert_array_equal(data.batch.observations[0], jnp.eye(3)[jnp.array([0, 1])])
    np.testing.assert_array_equal(data.batch.next_observations[0, 0], jnp.eye(3)[1])
    np.testing.assert_array_equal(data.batch.times, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(data.batch.truncated, [[False, True], [False, True]])
    assert data.batch.valid.all()
    assert not data.batch.terminated.any()
    assert data.scores.shape == (2, 2, 6)


def test_names_say_what_an_estimator_is():
    assert set(ESTIMATORS) == {*NONE, *EXACT, *FITTED, *BIASED}
    assert len(ESTIMATORS) == len(NONE) + len(EXACT) + len(FITTED) + len(BIASED)
    assert all(name.startswith(tuple(NONE)) for name in ESTIMATORS)


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
