from dataclasses import replace
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical, numbers, ravel
from support.samples import samples_at
from surefoot.baselines import Samples, ValueNetwork
from surefoot.options import UserError

KEY = jax.random.key(0)
ALL = jnp.ones((4, 6), bool)
OBSERVATIONS = jax.random.normal(KEY, (4, 6, 2))
TARGET = 2 * OBSERVATIONS[..., 0] - OBSERVATIONS[..., 1] ** 2 + 3.0
DATA = replace(
    samples_at(OBSERVATIONS, TARGET, ALL),
    rewards=0.5 * TARGET,
    discounts=jnp.full((4, 6), 0.5),
    next_observations=OBSERVATIONS,
)


@eqx.filter_jit
def _fit(baseline: ValueNetwork, samples: Samples, parameters: Any, times: Any) -> Any:
    now, static = eqx.partition(parameters, eqx.is_array)

    def turn(_: Any, now: Any) -> Any:
        return eqx.filter(baseline.fit(eqx.combine(now, static), samples), eqx.is_array)

    return eqx.combine(jax.lax.fori_loop(0, times, turn, now), static)


def fit(baseline: ValueNetwork, samples: Samples, parameters: Any = None, times: int = 1) -> Any:
    """`times` fits in a row, each going on from the last: one program for any number of them."""
    if parameters is None:
        parameters = start(baseline, samples.observations.shape[-1])
    return _fit(baseline, samples, parameters, jnp.array(times))


@cache
def start(baseline: ValueNetwork, observation_space: int = 2) -> Any:
    return baseline.init(KEY, observation_space, 6)


@eqx.filter_jit
def values(baseline: ValueNetwork, parameters: Any, observations: Any = OBSERVATIONS) -> Any:
    return jax.vmap(lambda o: baseline.values(parameters, o, jnp.zeros(o.shape[0])))(observations)


@pytest.mark.parametrize("minibatches", [1, 3])
def test_it_learns(minibatches: int):
    baseline = ValueNetwork(hidden=(16,), lr=0.02, epochs=20, minibatches=minibatches)
    untrained = values(baseline, start(baseline))
    trained = values(baseline, fit(baseline, DATA, times=20))
    assert jnp.mean((untrained - TARGET) ** 2) > 2.0
    assert jnp.mean((trained - TARGET) ** 2) < 0.1


def test_a_fit_goes_on_from_the_one_before():
    baseline = ValueNetwork(hidden=(8,), lr=0.01, epochs=5)
    once = fit(baseline, DATA)
    twice = fit(baseline, DATA, once)
    assert len({numbers(p.key).tobytes() for p in (start(baseline), once, twice)}) == 3
    errors = [jnp.mean((values(baseline, p) - TARGET) ** 2) for p in (start(baseline), once, twice)]
    assert errors[0] > errors[1] > errors[2]
    np.testing.assert_allclose(ravel(fit(baseline, DATA, times=2)), ravel(twice), rtol=1e-5, atol=1e-7)


def test_one_full_step_of_adam_moves_every_parameter_by_the_rate():
    baseline = ValueNetwork(hidden=(3,), lr=0.01, epochs=1)
    before = start(baseline).network
    after = fit(baseline, DATA).network

    def loss(network: Any) -> Any:
        return 0.5 * jnp.mean((network(OBSERVATIONS)[..., 0] - TARGET) ** 2)

    # The first step of Adam is the sign of the gradient.
    expected = -0.01 * jnp.sign(ravel(jax.jit(jax.grad(loss))(before)))
    np.testing.assert_allclose(ravel(after) - ravel(before), expected, rtol=1e-2)


def test_a_linear_network_finds_the_least_squares():
    baseline = ValueNetwork(hidden=(), lr=0.02, epochs=50)
    found = values(baseline, fit(baseline, DATA, times=20))
    x = np.column_stack([np.asarray(OBSERVATIONS).reshape(24, 2), np.ones(24)])
    weights = np.linalg.lstsq(x, np.asarray(TARGET).reshape(24), rcond=None)[0]
    np.testing.assert_allclose(np.ravel(found), x @ weights, atol=0.01)


STATES = jnp.eye(3)[None]
CHAIN = Samples(
    # 0 → 1 → 2 → 2 …, one-hot; each step earns its state's number plus one, with γ = ½.
    observations=STATES,
    times=jnp.arange(3.0)[None],
    returns=jnp.full((1, 3), 1e3),
    rewards=jnp.array([[1.0, 2.0, 3.0]]),
    discounts=jnp.full((1, 3), 0.5),
    next_observations=jnp.stack([STATES[0, 1], STATES[0, 2], STATES[0, 2]])[None],
    valid=jnp.ones((1, 3), bool),
)
TD = ValueNetwork(hidden=(), lr=0.05, target="td", rounds=10, epochs=10)


def test_fitted_td_iteration_finds_the_fixed_point_of_a_chain():
    # V₂ = 3 / (1 − ½), V₁ = 2 + V₂/2, V₀ = 1 + V₁/2. The returns, which are wrong, do not count.
    found = values(TD, fit(TD, CHAIN, times=15), STATES)[0]
    np.testing.assert_allclose(found, [3.5, 5.0, 6.0], atol=0.05)


def test_nothing_is_bootstrapped_from_where_an_episode_ends_for_good():
    ended = replace(CHAIN, discounts=jnp.array([[0.5, 0.5, 0.0]]))
    found = values(TD, fit(TD, ended, times=15), STATES)[0]
    np.testing.assert_allclose(found, [1 + 0.5 * 3.5, 2 + 0.5 * 3, 3.0], atol=0.05)


def test_the_targets_of_a_round_stand_still():
    """One round from V = 0 learns the rewards, the second what is two steps ahead."""
    patient = replace(TD, rounds=1, epochs=300)
    zero = eqx.tree_at(lambda p: p.network.weights[0], start(patient, 3), jnp.zeros((3, 1)))
    np.testing.assert_allclose(values(patient, fit(patient, CHAIN, zero), STATES)[0], [1, 2, 3], atol=0.05)
    two = replace(patient, rounds=2)
    np.testing.assert_allclose(values(two, fit(two, CHAIN, zero), STATES)[0], [2.0, 3.5, 4.5], atol=0.05)


@pytest.mark.parametrize("target", ["monte-carlo", "td"])
def test_the_proximal_term_holds_the_parameters_back(target: Any):
    baseline = ValueNetwork(hidden=(4,), lr=1e-3, epochs=200, target=target)
    before = ravel(start(baseline).network)
    moves = [
        jnp.linalg.norm(ravel(fit(replace(baseline, proximal=price), DATA).network) - before)
        for price in (0.0, 10.0, 1e4)
    ]
    assert moves[0] > 1.5 * moves[1]
    assert moves[2] < 1e-3 * moves[0]


def test_the_proximal_term_is_paid_to_where_the_round_began():
    """The least of ½ (b − 1)² + λ (b − bᵢ)² is b = (1 + 2 λ bᵢ) / (1 + 2 λ): round by round towards 1."""
    flat = samples_at(jnp.zeros((1, 2, 1)), jnp.ones((1, 2)), jnp.ones((1, 2), bool))
    baseline = ValueNetwork(hidden=(), lr=0.01, epochs=300, proximal=0.5)
    for rounds, expected in ((1, 0.5), (2, 0.75)):
        found = fit(replace(baseline, rounds=rounds), flat)
        np.testing.assert_allclose(found.network.biases[0], [expected], atol=0.01)


@pytest.mark.parametrize("target", ["monte-carlo", "td"])
def test_padding_may_be_anything(target: Any):
    valid = jnp.arange(6) < jnp.array([6, 4, 2, 1])[:, None]
    baseline = ValueNetwork(hidden=(4,), lr=0.01, epochs=3, minibatches=2, target=target)
    clean = replace(DATA, valid=valid, discounts=jnp.where(valid, DATA.discounts, 0.0))
    soiled = replace(
        clean,
        observations=jnp.where(valid[..., None], clean.observations, 1e3),
        next_observations=jnp.where(valid[..., None], clean.next_observations, -1e3),
        returns=jnp.where(valid, clean.returns, 1e3),
        rewards=jnp.where(valid, clean.rewards, 1e3),
    )
    assert identical(fit(baseline, soiled), fit(baseline, clean))


def test_minibatches_are_drawn_anew_with_every_fit():
    baseline = ValueNetwork(hidden=(3,), lr=0.01, epochs=1, minibatches=6)
    first = start(baseline)
    later = replace(first, key=fit(baseline, DATA, first).key)
    same, other = fit(baseline, DATA, first), fit(baseline, DATA, later)
    assert identical(fit(baseline, DATA, first), same)
    assert not identical(same.network, other.network)


def test_more_minibatches_than_samples_are_refused_with_what_to_do():
    baseline = ValueNetwork(hidden=(3,), minibatches=25)
    with pytest.raises(UserError, match=r"24 samples.*25 minibatches.*--estimation.baseline.minibatches"):
        baseline.fit(start(baseline), DATA)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hidden": (0,)}, "hidden is .0,.; it must be layer sizes of 1 or more"),
        ({"lr": -1.0}, "lr is -1.0; it must be 0 or more, and finite"),
        ({"rounds": 0}, "rounds is 0; it must be 1 or more"),
        ({"epochs": 0}, "epochs is 0; it must be 1 or more"),
        ({"minibatches": 0}, "minibatches is 0; it must be 1 or more"),
        ({"proximal": -1.0}, "proximal is -1.0; it must be 0 or more"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        ValueNetwork(**options)


def test_targets_between_a_reward_and_the_return():
    """Two episodes in one row; with values of zero, a target is a sum of rewards with γλ as discount."""
    times = jnp.array([[0.0, 1.0, 2.0, 0.0, 1.0, 2.0]])
    samples = Samples(
        observations=jnp.zeros((1, 6, 2)),
        times=times,
        returns=jnp.zeros((1, 6)),
        rewards=jnp.array([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]]),
        discounts=jnp.full((1, 6), 0.5),
        next_observations=jnp.zeros((1, 6, 2)),
        valid=jnp.array([[True, True, True, True, True, False]]),
    )
    baseline = ValueNetwork(hidden=(), target="lambda-return", target_lambda=0.5)
    network = start(baseline).network
    targets = baseline._targets(network, samples)[0, :5]
    np.testing.assert_allclose(
        targets, [1 + 0.25 * (2 + 0.25 * 4), 2 + 0.25 * 4, 4, 8 + 0.25 * 16, 16], rtol=1e-6
    )


def test_it_learns_from_lambda_returns():
    baseline = ValueNetwork(hidden=(16,), lr=0.02, epochs=20, target="lambda-return", target_lambda=0.0)
    trained = values(baseline, fit(baseline, DATA, times=20))
    # Each state leads to itself, with half the target as reward and half the value: V = target.
    assert jnp.mean((trained - TARGET) ** 2) < 0.5
