"""What flows through the library: trajectories, and what learning makes of them.

Axes are written `[task episode time ...]`. A formula is written for one trajectory (`[time]`) and vmapped
outside, so every record here may carry any leading axes, named `*axes` in its types: none for a single
trajectory, `episode` for one task's, `task episode` for many tasks'.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key as KeyOf, PRNGKeyArray, PyTree, Shaped

Key = PRNGKeyArray
"""A typed random key, as `jax.random.key` makes them."""

Keys = KeyOf[Array, "..."]
"""Several of them."""


def is_key(x: Any) -> bool:
    """Whether `x` is an array of random keys, or stands for one."""
    return isinstance(x, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


Task = PyTree[Shaped[Array, "..."] | Shaped[np.ndarray, "..."]]
"""The parameters that tell one task of a family from another: arrays, with a leading axis where there are
many. Where the host steps environments they are NumPy's."""


@dataclass(frozen=True)
class Continuous:
    """Actions are vectors of real numbers: floating-point, shape `[size]`. The environment clips them, if it
    must."""

    size: int


@dataclass(frozen=True)
class Discrete:
    """Actions are the integers 0 … n − 1: int32, shape `[]`."""

    n: int


ActionSpace = Continuous | Discrete


class Rollout(eqx.Module):
    """Trajectories as they were sampled, padded to a common length.

    Step `t` holds the observation the policy saw, the action it drew and what came of it. Steps after an
    episode's end are padding: `valid` is False there, and every other field is zero or meaningless.
    """

    observations: Float[Array, "*axes time obs"]
    actions: Float[Array, "*axes time act"] | Int[Array, "*axes time"]
    """As drawn from the policy, before any clipping by the environment."""
    log_probs: Float[Array, "*axes time"]
    """Log-probability (density) of `actions` under the policy that drew them."""
    rewards: Float[Array, "*axes time"]
    terminated: Bool[Array, "*axes time"]
    """True at the step that led into a terminal state, whose value is zero by definition."""
    truncated: Bool[Array, "*axes time"]
    """True at the step at which a time limit cut the episode short; never where `terminated` is."""
    valid: Bool[Array, "*axes time"]
    next_observations: Float[Array, "*axes time obs"]
    """What each step led to, before any reset: needed to bootstrap where an episode was cut short."""
    times: Int[Array, "*axes time"]
    """Steps since the episode began. Zero marks the first step of an episode: whole episodes begin with it,
    and streams have it wherever one episode follows another."""
    memory: PyTree = None
    """Of a recurrent policy's streams: what it remembered before the first of these steps, without the time
    axis. None where every trajectory is an episode from its beginning, or the policy remembers nothing."""


class Transitions(eqx.Module):
    """What else is known of a batch's steps, for losses that are not of the policy alone."""

    rewards: Float[Array, "*axes time"]
    discounts: Float[Array, "*axes time"]
    """γ_t, zero where an episode ends for good and in padding."""
    values: Float[Array, "*axes time"]
    """V(s_t), as the advantages were estimated with."""
    returns: Float[Array, "*axes time"]
    """What a value function should predict: the advantage, before any normalisation, plus `values`."""
    next_observations: Float[Array, "*axes time obs"]


class Batch(eqx.Module):
    """What a rule learns from: the steps of one task, with their advantages."""

    observations: Float[Array, "*axes time obs"]
    actions: Float[Array, "*axes time act"] | Int[Array, "*axes time"]
    log_probs: Float[Array, "*axes time"]
    """Under the policy that drew the actions, so that importance ratios are one at that policy."""
    advantages: Float[Array, "*axes time"]
    valid: Bool[Array, "*axes time"]
    transitions: Transitions | None = None
    """For a loss that needs them; otherwise None."""
    starts: Bool[Array, "*axes time"] | None = None
    """For a recurrent policy's streams: where it forgets what came before. None where every trajectory is an
    episode from its beginning, or the policy remembers nothing."""
    memory: PyTree = None
    """As in `Rollout`."""
    advantage_scale: Float[Array, "*axes time"] | None = None
    """The standard deviation by which the task's advantages were divided, at each step; None where they were
    not normalised."""


class MetaBatch(eqx.Module):
    """What a meta-rule learns from: for every task, the data it adapted on and the data it is judged by.

    Every array has the leading axes `[task episode time]`.
    """

    support: tuple[Batch, ...]
    """One batch for each inner step, the k-th drawn by the policy after k steps."""
    query: Batch
    """Drawn by the adapted policy."""
    prepared: dict[str, PyTree] = eqx.field(default_factory=dict)
    """Constants of the terms of the meta-loss, by the term's name; every array has a leading task axis."""
