from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, identical, ravel
from support.probes import Bowl, Point
from support.samples import as_streams, categorical_policy, gaussian_policy, random_batch
from surefoot.options import UserError
from surefoot.policies import GRU
from surefoot.rules import AbstractRule, PPOClip, PPOPenalty
from surefoot.rules.ppo import _parts
from surefoot.theory.objectives import Clipped, PolicyObjective, surrogate
from surefoot.types import Batch, Discrete

OBJECTIVE = PolicyObjective(surrogate, 0.01)
parts_of = eqx.filter_jit(_parts)
BOTH = pytest.mark.parametrize("kind", [PPOClip, PPOPenalty])


def data(build: Callable[[], Any] = gaussian_policy) -> tuple[Any, Batch]:
    """A policy, and 24 steps that it drew."""
    policy = build()
    batch = random_batch(policy, jax.random.key(1), episodes=6)
    return policy, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


@eqx.filter_jit
def _step(rule: AbstractRule, policy: Any, batch: Any, state: Any, objective: Any) -> Any:
    return rule.step(objective, policy, batch, state)


def step(rule: AbstractRule, policy: Any, batch: Any, state: Any = None, objective: Any = OBJECTIVE) -> Any:
    return _step(rule, policy, batch, rule.init(policy) if state is None else state, objective)


def adam_by_hand(slope: Callable[[Any], Any], start: Any, lr: float, limit: float | None, steps: int) -> Any:
    """Steps of Adam (Kingma & Ba, 2015) on all of a batch, in NumPy."""
    now, first, second = np.asarray(start), 0.0, 0.0
    for t in range(1, steps + 1):
        gradient = np.asarray(slope(now))
        if limit is not None:
            gradient = gradient * min(1.0, limit / np.linalg.norm(gradient))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        now = now - lr * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-5)
    return now


def test_full_batches_are_steps_of_adam_on_the_clipped_objective(x64: None):
    policy, batch = data()
    vector, build = flatten(policy)

    @jax.jit
    def slope(v: Any, clip: Any) -> Any:
        def loss(v: Any) -> Any:
            prediction = build(v)(batch.observations)
            ratio = jnp.exp(prediction.log_prob(batch.actions) - batch.log_probs)
            clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
            gains = jnp.minimum(ratio * batch.advantages, clipped * batch.advantages)
            valid = batch.valid.astype(float)
            return -jnp.sum(valid * (gains + 0.01 * prediction.entropy())) / jnp.sum(valid)

        return jax.grad(loss)(v)

    for limit in (None, 0.05):
        rule = PPOClip(lr=0.05, epochs=5, minibatches=1, clip=0.1, max_gradient_norm=limit)
        new, _, metrics = step(rule, policy, batch)
        expected, free = (
            adam_by_hand(lambda v, clip=clip: slope(v, clip), vector, 0.05, limit, 5) for clip in (0.1, 0.99)
        )
        np.testing.assert_allclose(ravel(new), expected, atol=1e-9)
        assert metrics["minibatch_steps"] == 5
        # The clip matters: without one the steps lead elsewhere.
        assert np.abs(free - ravel(new)).max() > 1e-3


def test_full_batches_are_steps_of_adam_on_the_penalised_objective(x64: None):
    policy, batch = data()
    vector, build = flatten(policy)
    old = eqx.filter_jit(policy)(batch.observations)

    def loss(v: Any) -> Any:
        prediction = build(v)(batch.observations)
        valid = batch.valid.astype(float)
        divergence = jnp.sum(valid * old.kl(prediction)) / jnp.sum(valid)
        return OBJECTIVE.loss(prediction, batch) + 3.0 * divergence

    rule = PPOPenalty(lr=0.05, epochs=5, minibatches=1, beta=3.0, max_gradient_norm=None)
    new, _, _ = step(rule, policy, batch)
    expected = adam_by_hand(jax.jit(jax.grad(loss)), vector, 0.05, None, 5)
    np.testing.assert_allclose(ravel(new), expected, atol=1e-9)


def test_minibatch_by_minibatch_it_is_adam_on_each_part_in_turn(x64: None):
    policy, batch = data()
    vector, build = flatten(policy)
    rule = PPOClip(lr=0.05, epochs=2, minibatches=3, max_gradient_norm=None)
    parts = parts_of(rule, batch, jax.random.split(rule.init(policy).key)[1])
    clipped = PolicyObjective(Clipped(0.2), 0.01)

    @jax.jit
    def slope(v: Any, part: Any) -> Any:
        chosen = jax.tree.map(lambda x: x[part], batch)
        return jax.grad(lambda v: clipped.loss(build(v)(chosen.observations), chosen))(v)

    remaining = iter(parts)
    expected = adam_by_hand(lambda v: slope(v, next(remaining)), vector, 0.05, None, len(parts))
    np.testing.assert_allclose(ravel(step(rule, policy, batch)[0]), expected, atol=1e-9)


def test_every_epoch_takes_every_sample_once_in_another_order():
    _, batch = data()
    rule = PPOClip(epochs=3, minibatches=4)
    parts = np.asarray(parts_of(rule, batch, jax.random.key(0)))
    assert parts.shape == (12, 6)
    epochs = parts.reshape(3, 24)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(24), (3, 1)))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    assert not np.array_equal(parts, parts_of(rule, batch, jax.random.key(1)))


def test_the_next_batch_is_taken_in_an_order_of_its_own_and_adam_remembers():
    policy, batch = data()
    rule = PPOClip(lr=0.02, epochs=1, minibatches=4)
    first = rule.init(policy)
    once, second, _ = step(rule, policy, batch, first)
    assert not identical(first.key, second.key)
    again = eqx.tree_at(lambda s: s.key, first, second.key)
    assert not identical(once, step(rule, policy, batch, again)[0])
    _, third, _ = step(rule, policy, batch, second)
    (count,) = [x for x in jax.tree.leaves(third.optimiser) if x.dtype == jnp.int32]
    assert count == 8
    assert third.batches == 2


@pytest.mark.parametrize("rule", [PPOClip(lr=0.02), PPOPenalty(lr=0.02, beta=5.0)])
@pytest.mark.parametrize("build", [gaussian_policy, categorical_policy], ids=["gaussian", "categorical"])
def test_it_improves_the_policy_and_stays_near_it(rule: AbstractRule, build: Any):
    policy, batch = data(build)
    new, state, metrics = step(rule, policy, batch)
    assert metrics["loss_after"] < metrics["loss"] - 0.02
    assert 1e-4 < metrics["kl"] < 0.2
    assert metrics["minibatch_steps"] == 40
    assert state.batches == 1
    assert jax.tree.structure(new) == jax.tree.structure(policy)


@BOTH
def test_steps_stop_where_the_divergence_exceeds_its_limit(kind: Any):
    policy, batch = data()
    rule = kind(lr=0.02, epochs=6, minibatches=2, stop_kl=0.01)
    new, state, metrics = step(rule, policy, batch)
    free, _, unlimited = step(replace(rule, stop_kl=None), policy, batch)
    assert 1 < metrics["minibatch_steps"] < 12
    assert unlimited["minibatch_steps"] == 12
    assert 0.003 < metrics["kl"] < 0.03 < unlimited["kl"]
    # What is kept is where it stopped, the optimiser's memory too.
    taken = int(metrics["minibatch_steps"])
    counts = [x for x in jax.tree.leaves(state.optimiser) if x.dtype == jnp.int32]
    assert [int(c) for c in counts] == [taken]
    assert not identical(new, free)
    assert state.batches == 1
    # A limit that is never reached changes nothing.
    bounded, _, metrics = step(replace(rule, stop_kl=100.0), policy, batch)
    np.testing.assert_allclose(ravel(bounded), ravel(free), atol=1e-6)
    assert metrics["minibatch_steps"] == 12
    # Without an end the rate is fixed.
    later = eqx.tree_at(lambda s: s.batches, rule.init(policy), jnp.array(1000, jnp.int32))
    later_metrics = step(replace(rule, stop_kl=None), policy, batch, later)[2]
    np.testing.assert_allclose(later_metrics["learning_rate"], 0.02, rtol=1e-6)


@BOTH
def test_the_divergence_that_stops_is_from_the_old_policy_to_the_new(kind: Any):
    """Only the entropy counts. A step of 0.3 widens both actions' deviations by a factor of e⁰·³: the
    divergence is 2 (0.3 + ½ (e⁻⁰·⁶ − 1)) = 0.15, and 0.22 the other way round. After another it is 0.50."""
    policy, batch = data()
    still = replace(batch, advantages=jnp.zeros_like(batch.advantages))
    rule = kind(lr=0.3, epochs=3, minibatches=1, stop_kl=0.18)
    _, _, metrics = step(rule, policy, still, objective=PolicyObjective(surrogate, 1.0))
    assert metrics["minibatch_steps"] == 2


@BOTH
@pytest.mark.parametrize("stop_kl", [None, 0.01])
def test_the_rate_falls_in_a_straight_line_and_stays(kind: Any, stop_kl: float | None):
    policy, batch = data()
    rule = kind(lr=0.04, lr_end=0.0, decay_steps=4, epochs=1, minibatches=1, stop_kl=stop_kl)
    state, rates, moves = rule.init(policy), [], []
    for _ in range(6):
        new, state, metrics = step(rule, policy, batch, state)
        rates.append(float(metrics["learning_rate"]))
        moves.append(float(jnp.abs(ravel(new) - ravel(policy)).max()))
    np.testing.assert_allclose(rates, [0.04, 0.03, 0.02, 0.01, 0.0, 0.0], atol=1e-9)
    # From the same gradient Adam's step is the rate itself.
    np.testing.assert_allclose(moves, rates, rtol=0.02, atol=1e-9)


@pytest.mark.parametrize(("batches", "factor"), [(0, 0.5), (1, 2.0)])
def test_the_price_halves_where_a_batch_moved_the_policy_little_and_doubles_where_much(
    batches: int, factor: float
):
    """The learning rate is 1e-5 for the first batch and 0.2 afterwards: one program for both."""
    policy, batch = data()
    rule = PPOPenalty(lr=1e-5, lr_end=0.2, decay_steps=1, beta=0.75, target_kl=0.01, epochs=2, minibatches=2)
    start = eqx.tree_at(lambda s: s.batches, rule.init(policy), jnp.array(batches, jnp.int32))
    _, state, metrics = step(rule, policy, batch, start)
    assert (metrics["kl"] < 0.01 / 1.5) == (factor == 0.5)
    assert metrics["beta"] == 0.75
    assert state.beta == 0.75 * factor
    _, _, following = step(rule, policy, batch, state)
    assert following["beta"] == 0.75 * factor


def test_a_high_price_keeps_the_policy_where_it_is_and_a_fixed_one_stays():
    policy, batch = data()
    rule, divergences = PPOPenalty(lr=1e-3, target_kl=None, epochs=50), []
    for beta in (1e-3, 0.75, 1e3):
        _, state, metrics = step(rule, policy, batch, replace(rule, beta=beta).init(policy))
        assert state.beta == jnp.float32(beta)
        divergences.append(metrics["kl"])
    assert divergences[2] < 0.01 * divergences[0]


@eqx.filter_jit
def unroll_entropy(policy: Any, batch: Batch) -> Any:
    return policy.unroll(batch.observations, batch.starts, batch.memory).entropy()


@BOTH
def test_a_recurrent_policy_is_divided_into_whole_rows(kind: Any):
    policy = GRU(units=3, output_scale=1.0).build(jax.random.key(0), 2, Discrete(3))
    starts = np.zeros((4, 4), bool)
    starts[:, 2] = True
    batch = random_batch(policy, jax.random.key(1), episodes=4)
    batch = as_streams(policy, batch, jnp.asarray(starts), jnp.ones((4, 3)))
    new, _, metrics = step(kind(lr=0.02, epochs=4, minibatches=2), policy, batch)
    assert metrics["loss_after"] < metrics["loss"] - 0.01
    # Every ratio is one before the first step: memory and beginnings are those of the same rows.
    valid = np.asarray(batch.valid)
    entropy = np.asarray(unroll_entropy(policy, batch))[valid].mean()
    expected = -np.asarray(batch.advantages)[valid].mean() - 0.01 * entropy
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
    assert not identical(new, policy)


@BOTH
def test_more_minibatches_than_the_batch_has_parts_are_refused_with_what_to_do(kind: Any):
    policy, batch = data()
    rule = kind(minibatches=25)
    with pytest.raises(UserError, match=r"batch of 24 .*25 minibatches; lower --rule.minibatches"):
        rule.step(OBJECTIVE, policy, batch, rule.init(policy))


def test_an_objective_without_a_ratio_to_clip_is_refused():
    rule, start = PPOClip(), Point(3.0, 2.0)
    with pytest.raises(UserError, match="Bowl has no likelihood ratio to clip"):
        rule.step(Bowl([0.0, 1.0], [1.0, 4.0]), start, jnp.zeros(4), rule.init(start))


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (PPOClip, {"clip": 0.0}, "clip is 0.0; it must be above 0 and below 1"),
        (PPOClip, {"lr": -1.0}, "lr is -1.0; it must be 0 or more, and finite"),
        (PPOClip, {"lr_end": -1.0}, "lr-end is -1.0; it must be 0 or more, and finite, or none"),
        (PPOClip, {"lr_end": float("inf")}, "lr-end is inf"),
        (PPOClip, {"decay_steps": 0}, "decay-steps is 0; it must be 1 or more"),
        (PPOClip, {"epochs": 0}, "epochs is 0; it must be 1 or more"),
        (PPOPenalty, {"minibatches": 0}, "minibatches is 0; it must be 1 or more"),
        (PPOPenalty, {"stop_kl": 0.0}, "stop-kl is 0.0; it must be a positive number, or none"),
        (PPOPenalty, {"beta": 0.0}, "beta is 0.0; it must be a positive number"),
        (PPOPenalty, {"target_kl": -1.0}, "target-kl is -1.0; it must be a positive number, or none"),
        (
            PPOClip,
            {"max_gradient_norm": 0.0},
            "max-gradient-norm is 0.0; it must be a positive number, or",
        ),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(kind: Any, options: dict, says: str):
    with pytest.raises(UserError, match=says):
        kind(**options)
