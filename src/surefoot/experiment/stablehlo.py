"""A policy and its adaptation as functions of plain arrays, and such functions as StableHLO."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, PyTree

from surefoot.algorithms import AbstractAdapter
from surefoot.envs.base import AbstractFamily
from surefoot.policies import AbstractPolicy, act, initial_memory
from surefoot.samplers.base import empty_rollout
from surefoot.types import ObservationSpace, Rollout, as_space, with_key, without_key

Platform = Literal["cpu", "cuda", "rocm", "tpu"]
Arrays = dict[str, Array]
"""Arrays by name."""

KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)
"""The form of a random key: the data of one of JAX's default keys."""


def as_arrays(tree: PyTree) -> Arrays:
    """The arrays of a tree, named by their places in it; random keys as their data."""
    return {name: without_key(x) for name, x in _named(tree)}


def from_arrays(tree: Any, arrays: Arrays) -> Any:
    """The tree with these arrays in place of its own."""
    dynamic, static = eqx.partition(tree, eqx.is_array)
    leaves = [with_key(arrays[name], x) for name, x in _named(tree)]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(dynamic), leaves), static)


def _named(tree: PyTree) -> list[tuple[str, Array]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def outputs(policy: AbstractPolicy, observations: PyTree, key: Array, *memory: Arrays) -> dict[str, Any]:
    """One step of a policy for a batch of observations: `action` (a sample), `mode`, the parameters of the
    distribution by their names, and the next `memory` of a recurrent policy."""
    before = from_arrays({"memory": initial_memory(policy)}, *memory) if memory else {"memory": None}
    distribution, after = act(policy, observations, before["memory"])
    action = distribution.sample(jax.random.wrap_key_data(key))
    made = {"action": action, "mode": distribution.mode(), **as_arrays(distribution)}
    return made | {"memory": as_arrays({"memory": after})} if policy.is_recurrent else made


def first_memory(policy: AbstractPolicy) -> Arrays:
    """The memory of any policy at the beginning of an episode; empty for one that has no memory."""
    return as_arrays({"memory": initial_memory(policy)})


def policy_inputs(policy: AbstractPolicy, space: ObservationSpace) -> tuple[PyTree, ...]:
    """The forms of observations and key, and of a recurrent policy's memory, for a batch of any size."""
    (batch,) = export.symbolic_shape("batch")

    def with_batch(part: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *part.shape), part.dtype)

    observations = jax.tree.map(with_batch, as_space(space))
    memory = [jax.tree.map(with_batch, first_memory(policy))] if policy.is_recurrent else []
    return observations, KEY, *memory


@dataclass(frozen=True, eq=False)
class PlainAdaptation:
    """Adaptation by gradient as a function of plain arrays: the parameters before a step, and the episodes
    that were sampled with them, to the parameters after it."""

    adapter: AbstractAdapter
    learner: PyTree
    """The adapter's learner before any data of a task."""

    @property
    def start(self) -> Arrays:
        """The parameters before the first step. They hold the rule's state and the number of steps too."""
        return as_arrays({"learner": self.learner, "steps": jnp.zeros((), jnp.int32)})

    def policy(self, parameters: Arrays) -> AbstractPolicy:
        """The policy of these parameters, as it meets the environment."""
        return self.adapter.acting(self._restored(parameters)["learner"])

    def act(self, parameters: Arrays, observations: PyTree, key: Array, *memory: Arrays) -> dict[str, Any]:
        """One step of the policy of these parameters, as `outputs`."""
        return outputs(self.policy(parameters), observations, key, *memory)

    def adapt(self, parameters: Arrays, episodes: dict[str, PyTree]) -> Arrays:
        """One step of adaptation to one task, on `episodes` of the form `episode_inputs`."""
        found = self._restored(parameters)
        policy = self.adapter.acting(found["learner"])
        log_probs = policy(episodes["observations"]).log_prob(episodes["actions"])
        times = jnp.cumsum(jnp.ones_like(episodes["valid"], jnp.int32), axis=-1) - 1
        rollout = Rollout(**episodes, log_probs=log_probs, times=times)
        learner = self.adapter.improve(found["learner"], self.adapter.batch(rollout, found["steps"]))
        return as_arrays({"learner": learner, "steps": found["steps"] + 1})

    def _restored(self, parameters: Arrays) -> dict[str, Any]:
        return from_arrays({"learner": self.learner, "steps": jnp.zeros((), jnp.int32)}, parameters)


def episode_inputs(env: AbstractFamily, episodes: int) -> dict[str, PyTree]:
    """The form of a task's episodes, axes `[episode time ...]`, as fields of `Rollout`."""
    rollout = jax.eval_shape(lambda: empty_rollout(env, (episodes, env.horizon)))
    names = "observations actions rewards terminated truncated valid final_observations"
    real = jnp.result_type(float)  # rollouts are in single precision, and JAX may compute in double
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, real if x.dtype == jnp.float32 else x.dtype),
        {name: getattr(rollout, name) for name in names.split()},
    )


def serialised(
    function: Callable[..., Any], inputs: Sequence[PyTree], platforms: Sequence[str]
) -> tuple[bytes, dict[str, Any]]:
    """The function as StableHLO for inputs of these forms, and its inputs and outputs in words."""
    made = export.export(jax.jit(function), platforms=list(platforms))(*inputs)
    results = jax.tree.unflatten(made.out_tree, made.out_avals)
    return bytes(made.serialize()), {"inputs": described(list(inputs)), "outputs": described(results)}


def described(forms: PyTree) -> PyTree:
    """A form as text in place of every array, such as "float32[batch, 4]"."""
    return jax.tree.map(lambda x: f"{x.dtype}[{', '.join(map(str, x.shape))}]", forms)
