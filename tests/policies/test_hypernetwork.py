"""The network whose parameters the memory sets, against the same arithmetic by hand."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from surefoot.options import UserError
from surefoot.policies import HypernetworkActorCritic
from surefoot.types import Continuous, Discrete

OPTIONS = HypernetworkActorCritic(units=4, hidden=(3,), output_scale=1.0)
NEW: Any = OPTIONS.build(jax.random.key(0), 2, Discrete(3))
WEIGHTS = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), NEW.weights)
POLICY: Any = eqx.tree_at(lambda p: p.weights, NEW, WEIGHTS)
ROWS, TIME = 2, 4
NOW, AFTER = jax.random.normal(jax.random.key(1), (2, ROWS, TIME, 2))
# The second row begins a new episode at its third step.
STARTS = jnp.zeros((ROWS, TIME), bool).at[1, 2].set(True)
MEMORY = jax.random.normal(jax.random.key(2), (ROWS, 4))


def network(observation: Array, memory: Array) -> tuple[Array, Array]:
    """Logits and value, with the parameters φ + W h of each layer."""

    def layer(x: Array, choose: Any) -> Array:
        (weight,), (bias,) = (getattr(choose(POLICY.network), name) for name in ("weights", "biases"))
        (up,), (shift,) = (getattr(choose(POLICY.weights), name) for name in ("weights", "biases"))
        return x @ (weight + up @ memory) + bias + shift @ memory

    features = jnp.tanh(layer(observation, lambda net: net.torso))
    return layer(features, lambda net: net.actor.network), layer(features, lambda net: net.critic)[0]


@jax.jit
def by_hand() -> tuple[Array, Array, Array]:
    """The logits and V of each step, and V after it."""
    seen = []
    for row in range(ROWS):
        memory, steps = MEMORY[row], []
        for t in range(TIME):
            memory = POLICY.cell(NOW[row, t], jnp.where(STARTS[row, t], 0.0, memory))
            following = POLICY.cell(AFTER[row, t], memory)
            steps.append((*network(NOW[row, t], memory), network(AFTER[row, t], following)[1]))
        seen.append(jax.tree.map(lambda *x: jnp.stack(x), *steps))
    return jax.tree.map(lambda *x: jnp.stack(x), *seen)


def test_the_memory_sets_the_parameters_of_every_layer():
    logits, values, after = by_hand()
    actions = jnp.zeros((ROWS, TIME), jnp.int32)
    outputs = eqx.filter_jit(POLICY.unroll_outputs)(NOW, actions, STARTS, MEMORY)
    np.testing.assert_allclose(outputs.distribution.logits, logits, atol=1e-5)
    np.testing.assert_allclose(outputs.values, values, atol=1e-5)
    told = eqx.filter_jit(POLICY.unroll_values)(NOW, AFTER, STARTS, MEMORY)
    np.testing.assert_allclose(told, (values, after), atol=1e-5)


def test_a_new_one_is_its_network_whatever_it_remembers():
    distribution, memory = eqx.filter_jit(NEW.act)(NOW[:, 0], MEMORY)
    np.testing.assert_allclose(distribution.logits, NEW.network(NOW[:, 0]).logits, atol=1e-6)
    assert not np.allclose(memory, MEMORY)


def test_the_standard_deviation_follows_the_memory_too():
    new: Any = OPTIONS.build(jax.random.key(0), 2, Continuous(1))
    moving = eqx.tree_at(lambda p: p.weights, new, jax.tree.map(jnp.ones_like, new.weights))
    distribution = eqx.filter_jit(moving)(NOW)
    assert np.ptp(np.asarray(distribution.log_std)) > 0.1


def test_its_network_has_a_hidden_layer():
    with pytest.raises(UserError, match=r"hidden is \(\); it must be one layer or more"):
        HypernetworkActorCritic(hidden=())
