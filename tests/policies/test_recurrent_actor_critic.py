"""The values of a recurrent actor-critic, against the same steps taken one by one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from surefoot.algorithms.on_policy import critic_of
from surefoot.options import UserError
from surefoot.policies import ModePolicy, RecurrentActorCritic, RememberingPolicy
from surefoot.theory.objectives import ActorCriticObjective, PolicyObjective, surrogate
from surefoot.types import Batch, Discrete, Rollout, Transitions

POLICY: Any = RecurrentActorCritic(units=4, output_scale=1.0).build(jax.random.key(0), 2, Discrete(3))
ROWS, TIME = 2, 4
NOW, AFTER = jax.random.normal(jax.random.key(1), (2, ROWS, TIME, 2))
# The second row begins a new episode at its third step.
STARTS = jnp.zeros((ROWS, TIME), bool).at[1, 2].set(True)
MEMORY = jax.random.normal(jax.random.key(2), (ROWS, 4))
OBJECTIVE = ActorCriticObjective(PolicyObjective(surrogate))


@jax.jit
def by_hand() -> tuple[Array, Array, Array]:
    """V of each step, V after it, and the logits, one cell call at a time."""
    seen = []
    for row in range(ROWS):
        memory, steps = MEMORY[row], []
        for t in range(TIME):
            memory = POLICY.cell(NOW[row, t], jnp.where(STARTS[row, t], 0.0, memory))
            following = POLICY.cell(AFTER[row, t], memory)
            logits = POLICY.actor(memory).logits
            steps.append((POLICY.critic(memory)[0], POLICY.critic(following)[0], logits))
        seen.append(jax.tree.map(lambda *x: jnp.stack(x), *steps))
    return jax.tree.map(lambda *x: jnp.stack(x), *seen)


def rollout(memory: Array | None, observations: Array = NOW, following: Array = AFTER) -> Rollout:
    """Streams as above; without a memory, whole episodes. Each step is truncated, so that what follows it is
    its own."""
    times = jnp.broadcast_to(jnp.arange(TIME), (ROWS, TIME)) if memory is None else jnp.where(STARTS, 0, 5)
    nothing, no = jnp.zeros((ROWS, TIME)), jnp.zeros((ROWS, TIME), bool)
    actions = jnp.zeros((ROWS, TIME), jnp.int32)
    return Rollout(
        observations, actions, nothing, nothing, no, ~no, ~no, times.astype(jnp.int32), following, memory
    )


def test_streams_go_on_from_their_memory():
    values, after, logits = by_hand()
    critic: Any = critic_of(POLICY)
    told = eqx.filter_jit(critic)(rollout(MEMORY))
    np.testing.assert_allclose(told, (values, after), atol=1e-5)
    nothing = jnp.zeros((ROWS, TIME))
    actions = jnp.zeros((ROWS, TIME), jnp.int32)
    transitions = Transitions(nothing, nothing, nothing, nothing, AFTER)
    batch = Batch(NOW, actions, nothing, nothing, nothing == 0, transitions, STARTS, MEMORY)
    prediction = eqx.filter_jit(OBJECTIVE.predict)(POLICY, batch)
    np.testing.assert_allclose(prediction.values, values, atol=1e-5)
    np.testing.assert_allclose(prediction.distribution.logits, logits, atol=1e-5)


def test_of_whole_episodes_the_value_after_a_step_is_the_next_steps():
    critic: Any = eqx.filter_jit(critic_of(POLICY))
    values, after = critic(rollout(None, NOW, jnp.roll(NOW, -1, axis=1)))
    np.testing.assert_allclose(after[:, :-1], values[:, 1:], atol=1e-6)
    assert float(jnp.abs(values[:, 1:] - eqx.filter_jit(POLICY.values)(NOW[:, 1:])).min()) > 1e-4


def test_steps_without_order_are_refused():
    batch = Batch(NOW[0], jnp.zeros(TIME, jnp.int32), *jnp.zeros((2, TIME)), jnp.ones(TIME, bool))
    with pytest.raises(UserError, match="Do not flatten"):
        OBJECTIVE.predict(POLICY, batch)


def test_a_wrapper_passes_values_and_memory_on():
    told = eqx.filter_jit(ModePolicy(POLICY).unroll_values)(NOW, AFTER, STARTS, MEMORY)
    np.testing.assert_allclose(told, by_hand()[:2], atol=1e-5)


def test_a_policy_that_remembers_begins_with_its_memory():
    remembering = RememberingPolicy(POLICY, MEMORY[0])
    goes_on = jnp.zeros((1, TIME), bool)
    expected = eqx.filter_jit(POLICY.unroll)(NOW[:1], goes_on, MEMORY[:1]).logits
    np.testing.assert_allclose(eqx.filter_jit(remembering)(NOW[:1]).logits, expected, atol=1e-6)
    again = goes_on.at[0, 2].set(True)
    halves = eqx.filter_jit(remembering.unroll)(NOW[:1], again, MEMORY[1:]).logits
    fresh = eqx.filter_jit(POLICY.unroll)(NOW[:1, 2:], goes_on[:, 2:], MEMORY[:1]).logits
    np.testing.assert_allclose(halves[:, 2:], fresh, atol=1e-6)
