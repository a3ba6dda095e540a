"""Streams of several episodes, against the same steps taken one by one."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from support.dense import fisher_matrix, gradient_of, kl_hessian, ravel
from surefoot.options import UserError
from surefoot.policies import GRU, RecurrentActorCritic, act, initial_memory
from surefoot.theory.objectives import PolicyObjective, surrogate
from surefoot.types import Batch, Continuous, Discrete

SPACES = pytest.mark.parametrize("space", [Discrete(3), Continuous(2)], ids=["discrete", "continuous"])
TIME = 6
OBSERVATIONS = jax.random.normal(jax.random.key(5), (3, TIME, 2))
# The first row is a stream that goes on, then ends twice; the second begins anew; the third never does.
STARTS = jnp.zeros((3, TIME), bool).at[0, 2].set(True).at[0, 3].set(True).at[1, 0].set(True)
MEMORY = jax.random.normal(jax.random.key(6), (3, 4))


def build(space: Any = Discrete(3), units: int = 4) -> Any:  # noqa: B008
    return GRU(units=units, output_scale=1.0).build(jax.random.key(0), 2, space)


def outputs(distribution: Any) -> Array:
    """The distribution's parameters, as one vector for each step."""
    return jnp.concatenate(jax.tree.leaves(distribution), axis=-1)


@eqx.filter_jit
def step_by_step(policy: Any, observations: Array, starts: Array, memory: Array) -> tuple[Array, Array]:
    """By `act` alone, forgetting by hand."""
    seen = []
    for t in range(observations.shape[-2]):
        fresh = jnp.broadcast_to(policy.initial_memory(), memory.shape)
        memory = jnp.where(starts[..., t, None], fresh, memory)
        distribution, memory = policy.act(observations[..., t, :], memory)
        seen.append(outputs(distribution))
    return jnp.stack(seen, axis=-2), memory


@eqx.filter_jit
def unroll(policy: Any, observations: Array, starts: Array, memory: Array) -> Array:
    return outputs(policy.unroll(observations, starts, memory))


called = eqx.filter_jit(lambda policy, observations: policy(observations))
acted = eqx.filter_jit(lambda policy, observations, memory: policy.act(observations, memory))
predict = eqx.filter_jit(PolicyObjective.predict)


@eqx.filter_jit
def stream_batch(policy: Any, valid: Array | None = None) -> Batch:
    """A batch of the streams above, with actions drawn by `policy`."""
    observations, memory = OBSERVATIONS.astype(float), MEMORY[:, : policy.cell.hidden_size].astype(float)
    distribution = policy.unroll(observations, STARTS, memory)
    actions = distribution.sample(jax.random.key(7))
    return Batch(
        observations,
        actions,
        distribution.log_prob(actions),
        jax.random.normal(jax.random.key(8), (3, TIME)),
        jnp.ones((3, TIME), bool) if valid is None else valid,
        starts=STARTS,
        memory=memory,
    )


@SPACES
def test_unrolled_streams_are_what_acting_step_by_step_gives(space: Any):
    policy = build(space)
    expected, _ = step_by_step(policy, OBSERVATIONS, STARTS, MEMORY)
    np.testing.assert_allclose(unroll(policy, OBSERVATIONS, STARTS, MEMORY), expected, atol=1e-6)
    forgetful, _ = step_by_step(policy, OBSERVATIONS, jnp.ones_like(STARTS), MEMORY)
    changed = np.abs(expected - forgetful).max(axis=-1) > 1e-3
    # Only the first steps of episodes are those of a policy without memory.
    np.testing.assert_array_equal(changed, ~np.asarray(STARTS))


@SPACES
def test_called_it_takes_each_row_for_an_episode_from_its_beginning(space: Any):
    policy = build(space)
    fresh = jnp.broadcast_to(policy.initial_memory(), MEMORY.shape)
    expected, _ = step_by_step(policy, OBSERVATIONS, jnp.zeros_like(STARTS), fresh)
    np.testing.assert_allclose(outputs(called(policy, OBSERVATIONS)), expected, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_any_leading_axes_will_do(batch: tuple[int, ...]):
    policy = build()
    observations = jax.random.normal(jax.random.key(1), (*batch, TIME, 2))
    together = called(policy, observations).logits
    alone = [called(policy, one).logits for one in observations.reshape(-1, TIME, 2)]
    assert together.shape == (*batch, TIME, 3)
    np.testing.assert_allclose(together.reshape(-1, TIME, 3), jnp.stack(alone), atol=1e-6)
    memory = jnp.ones((*batch, 4))
    distribution, following = acted(policy, observations[..., 0, :], memory)
    assert distribution.logits.shape == (*batch, 3)
    assert following.shape == (*batch, 4)


def test_a_stream_in_two_parts_goes_on_from_its_memory():
    policy = build()
    whole = unroll(policy, OBSERVATIONS, STARTS, MEMORY)
    _, memory = step_by_step(policy, OBSERVATIONS[:, :4], STARTS[:, :4], MEMORY)
    second = unroll(policy, OBSERVATIONS[:, 4:], STARTS[:, 4:], memory)
    np.testing.assert_allclose(second, whole[:, 4:], atol=1e-6)
    assert jnp.abs(unroll(policy, OBSERVATIONS[:, 4:], STARTS[:, 4:], MEMORY) - whole[:, 4:]).max() > 1e-3


@SPACES
def test_no_gradient_leaks_across_the_beginning_of_an_episode(space: Any):
    """The slope of each step's output in each observation: nothing of an episode before, nothing later."""
    policy = build(space)

    def total(observations: Array, memory: Array) -> Array:
        return outputs(policy.unroll(observations, STARTS, memory)).sum(axis=-1)

    slopes, of_memory = jax.jit(jax.jacobian(total, (0, 1)))(OBSERVATIONS, MEMORY)
    reaches = np.abs(slopes).max(axis=-1) > 0
    episode = np.cumsum(STARTS, axis=1)
    for row in range(3):
        same = episode[row][:, None] == episode[row][None, :]
        earlier = np.tril(np.ones((TIME, TIME), bool))
        np.testing.assert_array_equal(reaches[row, :, row], same & earlier)
        # The memory belongs to what has not begun anew.
        np.testing.assert_array_equal(np.abs(of_memory[row, :, row]).max(axis=-1) > 0, episode[row] == 0)
        others = [i for i in range(3) if i != row]
        assert not reaches[row][:, others].any()


def test_what_was_before_an_episode_may_be_anything():
    policy = build()
    clean = unroll(policy, OBSERVATIONS, STARTS, MEMORY)
    for soil in (1e6, jnp.nan):
        past = jnp.where(jnp.arange(TIME)[:, None] < 3, soil, OBSERVATIONS[0])
        memory = MEMORY.at[0].set(soil).at[1].set(soil)
        soiled = unroll(policy, OBSERVATIONS.at[0].set(past), STARTS, memory)
        np.testing.assert_array_equal(soiled[0, 3:], clean[0, 3:])
        np.testing.assert_array_equal(soiled[1], clean[1])


@SPACES
def test_padding_moves_neither_loss_nor_gradient(space: Any):
    """Whole episodes: what stands after their end is never reached by what came before."""
    policy, objective = build(space), PolicyObjective(surrogate, 0.1)
    valid = jnp.arange(TIME) < jnp.array([6, 3, 1])[:, None]
    batch = replace(stream_batch(policy, valid), starts=None, memory=None)
    soiled = replace(
        batch,
        observations=jnp.where(valid[..., None], batch.observations, 50.0),
        log_probs=jnp.where(valid, batch.log_probs, -9.0),
        advantages=jnp.where(valid, batch.advantages, 1e3),
    )
    loss, gradient = gradient_of(objective, policy, batch)
    other_loss, other_gradient = gradient_of(objective, policy, soiled)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-6)
    np.testing.assert_allclose(ravel(other_gradient), ravel(gradient), atol=1e-7)
    # Nor does it matter how long the padding is.
    short_loss, short_gradient = gradient_of(objective, policy, jax.tree.map(lambda x: x[1:, :3], batch))
    long = replace(batch, valid=batch.valid.at[0].set(False))
    long_loss, long_gradient = gradient_of(objective, policy, long)
    np.testing.assert_allclose(short_loss, long_loss, rtol=1e-5)
    np.testing.assert_allclose(ravel(short_gradient), ravel(long_gradient), atol=1e-6)


@SPACES
@pytest.mark.parametrize("streams", [True, False], ids=["streams", "episodes"])
def test_the_product_with_the_fisher_matrix_goes_through_time(space: Any, streams: bool, x64: None):
    policy = build(space, units=2)
    valid = jnp.arange(TIME) < jnp.array([6, 6, 4])[:, None]
    stream = stream_batch(policy, valid)
    batch = stream if streams else replace(stream, starts=None, memory=None)
    objective = PolicyObjective(surrogate)
    dense = kl_hessian(objective, policy, batch)
    np.testing.assert_allclose(fisher_matrix(objective, policy, batch), dense, atol=1e-11)
    # What is remembered counts: were every step a beginning, the matrix would be another.
    steps = replace(stream, starts=jnp.ones_like(STARTS))
    assert jnp.linalg.norm(dense - kl_hessian(objective, policy, steps)) > 0.01
    assert jnp.linalg.norm(dense) > 0.1


def test_the_ratios_of_a_stream_are_one_at_the_policy_that_drew_it():
    policy, objective = build(), PolicyObjective(surrogate)
    batch = stream_batch(policy)
    prediction = predict(objective, policy, batch)
    np.testing.assert_allclose(prediction.log_prob(batch.actions), batch.log_probs, atol=1e-6)
    forgetful = predict(objective, policy, replace(batch, starts=None, memory=None))
    assert jnp.abs(forgetful.log_prob(batch.actions) - batch.log_probs).max() > 1e-3


def test_acting_is_the_same_through_the_common_door():
    policy = build()
    np.testing.assert_array_equal(initial_memory(policy), jnp.zeros(4))
    memory = MEMORY
    (got, following), (expected, remembered) = (
        eqx.filter_jit(act)(policy, OBSERVATIONS[:, 0], memory),
        acted(policy, OBSERVATIONS[:, 0], memory),
    )
    np.testing.assert_array_equal(got.logits, expected.logits)
    np.testing.assert_array_equal(following, remembered)


def test_options_reach_the_policy():
    policy = GRU(units=5, initial_std=0.5, output_scale=0.0).build(jax.random.key(0), 2, Continuous(3))
    distribution = called(policy, OBSERVATIONS)
    np.testing.assert_allclose(distribution.mean, 0.0)
    np.testing.assert_allclose(jnp.exp(distribution.log_std), 0.5, rtol=1e-5)
    assert policy.initial_memory().shape == (5,)


@pytest.mark.parametrize("options", [GRU, RecurrentActorCritic])
def test_the_span_is_the_longest_time_over_which_a_unit_remembers(options: Any):
    policy = options(units=400, memory_span=50.0).build(jax.random.key(0), 2, Discrete(3))
    cell = policy.cell
    silent = (jnp.zeros_like(cell.weight_ih), jnp.zeros_like(cell.weight_hh), jnp.zeros_like(cell.bias_n))
    # A candidate of zero: what is left after a step is what was kept.
    bias = cell.bias.at[800:].set(0.0)
    cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias_n, c.bias), cell, (*silent, bias))
    times = 1.0 / (1.0 - cell(jnp.zeros(2), jnp.ones(400)))
    assert 1.0 <= times.min() < 3.0
    assert 48.0 < times.max() <= 50.01
    np.testing.assert_allclose(times.mean(), 25.5, rtol=0.1)
    usual = options(units=400).build(jax.random.key(0), 2, Discrete(3))
    assert jnp.abs(usual.cell.bias).max() < 0.1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"units": 0}, "units is 0; it must be 1 or more"),
        ({"output_scale": -1.0}, "output-scale is -1.0; it must be 0 or more"),
        ({"memory_span": 1.0}, "memory-span is 1.0; it must be above 1"),
        ({"min_std": 0.0}, "min-std is 0.0; it must be a positive number"),
        ({"initial_std": 1e-9}, "initial-std is 1e-09; it must be above min-std"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        GRU(**options)


def test_the_times_are_drawn_by_themselves():
    """`fold_in(key, 1)` is a key of `split(key)`, by which the weights are drawn."""
    cell = GRU(units=400, memory_span=100.0).build(jax.random.key(0), 2, Discrete(3)).cell
    kept = cell.bias[400:800]
    for weights in (cell.weight_ih, cell.weight_hh):
        for row in weights[:3, : len(kept)]:
            if len(row) == len(kept):
                assert abs(np.corrcoef(row, kept)[0, 1]) < 0.25
