"""The causal transformer with a value head: its cache against whole sequences, and what it must not see."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from surefoot.envs import Bandit, Trial
from surefoot.experiment import preset
from surefoot.experiment.memory import check_memory
from surefoot.options import UserError
from surefoot.policies import AttentionActorCritic, RememberingPolicy
from surefoot.policies.transformer import Pairs, attend, rotate
from surefoot.types import Discrete

ROWS, TIME = 3, 6
OPTIONS = AttentionActorCritic(units=8, heads=2, layers=2, length=TIME, output_scale=1.0)
SEEN = jax.random.normal(jax.random.key(5), (ROWS, TIME, 2))
# The first row is a stream that goes on, then ends twice; the second begins anew; the third never does.
STARTS = jnp.zeros((ROWS, TIME), bool).at[0, 2].set(True).at[0, 3].set(True).at[1, 0].set(True)


def build(**options: Any) -> Any:
    return replace(OPTIONS, **options).build(jax.random.key(0), 2, Discrete(3))


POLICY = build()


@eqx.filter_jit
def step_by_step(policy: Any, seen: Array, starts: Array, memory: Any) -> tuple[Array, Any]:
    """The logits by `act` alone, forgetting by hand; and the memory at the end."""
    fresh, logits = policy.initial_memory(), []
    for t in range(seen.shape[-2]):
        memory = jax.tree.map(
            lambda new, old, t=t: jnp.where(starts[:, t].reshape(-1, *(1,) * new.ndim), new, old),
            fresh,
            memory,
        )
        distribution, memory = policy.act(seen[:, t], memory)
        logits.append(distribution.logits)
    return jnp.stack(logits, axis=1), memory


def first_memory(policy: Any) -> Any:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (ROWS, *x.shape)), policy.initial_memory())


@eqx.filter_jit
def unroll(policy: Any, seen: Array, starts: Array, memory: Any) -> Array:
    return policy.unroll(seen, starts, memory).logits


called = eqx.filter_jit(lambda policy, seen: policy(seen).logits)


def attended(query: Array, key: Array, value: Array, cached: int) -> np.ndarray:
    """What one head sees at each step, of which the first `cached` are those of the cache."""
    times = jnp.arange(len(query), dtype=jnp.int32)
    whole = Pairs(rotate(key[None], times), value[None])
    before, own = (
        jax.tree.map(lambda x, part=part: x[:, part], whole) for part in (slice(cached), slice(cached, None))
    )
    earlier = times[cached:, None] > times
    visible = [(before, earlier[:, :cached]), (own, earlier[:, cached:])]
    return np.asarray(attend(rotate(query[None], times)[:, cached:], own, visible)[0])


def test_a_key_is_turned_by_the_time_from_the_query_to_it_by_hand(x64: None):
    """Two steps and q_1 = (1, 0), k_0 = k_1 = (0, 1): turned by −1 to (sin 1, cos 1), the first key has the
    product sin 1 with the query, and the second, not turned, none."""
    query, key = jnp.array([[0.0, 0.0], [1.0, 0.0]]), jnp.array([[0.0, 1.0], [0.0, 1.0]])
    seen = attended(query, key, jnp.array([[1.0, 0.0], [0.0, 1.0]]), 0)
    weight = 1 / (1 + np.exp(-np.sin(1) / np.sqrt(2)))
    np.testing.assert_allclose(seen, [[1.0, 0.0], [weight, 1 - weight]], rtol=1e-14)


@pytest.mark.parametrize("cached", [0, 2])
def test_attention_is_the_weighted_mean_of_the_values_up_to_each_step(cached: int, x64: None):
    """With w_ts ∝ exp(q_tᵀ R_{s−t} k_s / √d): R_τ turns one plane by τ and the other by τ / 100. The cache is
    a part of the sum like any other."""
    query, key, value = jax.random.normal(jax.random.key(0), (3, 4, 4)) * 2.0
    expected = []
    for t in range(4):
        scores = []
        for s in range(t + 1):
            rotation = np.zeros((4, 4))
            for i, speed in enumerate((1.0, 0.01)):
                cos, sin = np.cos((s - t) * speed), np.sin((s - t) * speed)
                rotation[np.ix_([i, i + 2], [i, i + 2])] = [[cos, -sin], [sin, cos]]
            scores.append(query[t] @ rotation @ key[s] / 2.0)
        weights = np.exp(scores) / np.sum(np.exp(scores))
        expected.append(weights @ value[: t + 1])
    np.testing.assert_allclose(attended(query, key, value, cached), expected[cached:], rtol=1e-12)


def test_acting_from_the_cache_is_the_whole_sequence_at_once():
    nothing = jnp.zeros_like(STARTS)
    stepped, memory = step_by_step(POLICY, SEEN, nothing, first_memory(POLICY))
    np.testing.assert_allclose(called(POLICY, SEEN), stepped, atol=1e-6)
    np.testing.assert_array_equal(memory.time, TIME)


@pytest.mark.parametrize("length", [TIME, 3])
def test_streams_go_on_from_the_cache_and_begin_anew_at_starts(length: int):
    """Also where an episode is longer than the cache, which is then a window."""
    policy = build(length=length)
    _, memory = step_by_step(policy, SEEN[:, :4] + 1.0, jnp.zeros_like(STARTS), first_memory(policy))
    stepped, _ = step_by_step(policy, SEEN, STARTS, memory)
    np.testing.assert_allclose(unroll(policy, SEEN, STARTS, memory), stepped, atol=1e-6)
    forgetful, _ = step_by_step(policy, SEEN, jnp.ones_like(STARTS), memory)
    changed = np.abs(stepped - forgetful).max(axis=-1) > 1e-4
    np.testing.assert_array_equal(changed, ~np.asarray(STARTS))


def test_no_step_depends_on_a_later_one_nor_on_an_episode_before():
    """The slope of every output, actor's and critic's, in every observation."""
    memory = step_by_step(POLICY, SEEN[:, :1], STARTS & False, first_memory(POLICY))[1]

    def total(seen: Array) -> tuple[Array, Array]:
        told = POLICY.unroll_outputs(seen, jnp.zeros((ROWS, TIME), jnp.int32), STARTS, memory)
        return told.distribution.logits @ jnp.array([1.0, 2.0, 4.0]), told.values

    episode = np.cumsum(STARTS, axis=1)
    for slopes in jax.jit(jax.jacobian(total))(SEEN):
        reaches = np.abs(slopes).max(axis=-1) > 0
        for row in range(ROWS):
            same = episode[row][:, None] == episode[row][None, :]
            expected = same & np.tril(np.ones((TIME, TIME), bool))
            np.testing.assert_array_equal(reaches[row, :, row], expected)
            assert not reaches[row][:, [i for i in range(ROWS) if i != row]].any()


def test_of_whole_episodes_the_value_after_a_step_is_the_next_steps():
    now, after = SEEN[:, :-1], SEEN[:, 1:]
    starts = jnp.zeros((ROWS, TIME - 1), bool)
    memory = first_memory(POLICY)
    values, following = eqx.filter_jit(POLICY.unroll_values)(now, after, starts, memory)
    whole = eqx.filter_jit(POLICY.values)(SEEN)
    np.testing.assert_allclose(values, whole[:, :-1], atol=1e-6)
    np.testing.assert_allclose(following, whole[:, 1:], atol=1e-6)


def test_the_order_of_the_past_matters():
    turned = SEEN.at[:, :2].set(SEEN[:, 1::-1])
    assert jnp.abs(called(POLICY, turned)[:, -1] - called(POLICY, SEEN)[:, -1]).min() > 1e-6


def test_padding_moves_nothing_before_it():
    soiled = SEEN.at[:, 3:].set(50.0)
    np.testing.assert_array_equal(called(POLICY, soiled)[:, :3], called(POLICY, SEEN)[:, :3])


def test_it_goes_on_from_what_it_remembers_of_a_trial():
    _, memory = step_by_step(POLICY, SEEN[:, :2], STARTS & False, first_memory(POLICY))
    remembering = RememberingPolicy(POLICY, jax.tree.map(lambda x: x[0], memory))
    np.testing.assert_allclose(called(remembering, SEEN[:1, 2:]), called(POLICY, SEEN[:1])[:, 2:], atol=1e-6)


def test_without_a_time_limit_it_looks_back_on_its_own_length():
    policy = OPTIONS.for_episodes(0).build(jax.random.key(0), 2, Discrete(3))
    changed = SEEN.at[:, 0].add(1.0)
    before, after = policy(SEEN).logits, policy(changed).logits
    assert (before[:, -1] != after[:, -1]).any()


def test_the_cache_has_the_length_of_a_trial_and_a_longer_one_is_refused():
    trials = replace(preset("bandit/rl2-ppo"), policy=OPTIONS, env=Trial(Bandit(arms=3), episodes=1))
    policy: Any = replace(trials, env=Trial(Bandit(arms=3, horizon=2), episodes=2)).build_policy(
        jax.random.key(0)
    )
    assert policy.initial_memory().layers[0].keys.shape == (2, 4, 4)
    with pytest.raises(
        UserError, match=r"up to 10 steps, .* looks back on 6 at most; use --policy.length 10"
    ):
        trials.build_policy(jax.random.key(0))


def test_memories_beyond_the_machine_are_refused():
    huge = replace(OPTIONS, units=2**11, length=2**20)
    trials = replace(preset("bandit/rl2-ppo"), policy=huge, env=Trial(Bandit(), episodes=1000))
    with pytest.raises(UserError, match=r"memory of every episode would need .* Lower --episodes or --tasks"):
        check_memory(trials)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"units": 6}, "units is 6; it must be a multiple of twice the 2 heads"),
        ({"layers": 0}, "layers is 0; it must be 1 or more"),
        ({"length": 0}, "length is 0; it must be 1 or more"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(options: dict, says: str):
    with pytest.raises(UserError, match=says):
        replace(OPTIONS, **options)
