"""What flows through the library: trajectories, and what learning makes of them.

Axes are written `[task episode time ...]`. A formula is written for one trajectory (`[time]`) and vmapped
outside, so every record here may carry any leading axes, named `*axes` in its types: none for a single
trajectory, `episode` for one task's, `task episode` for many tasks'.
"""

from dataclasses import dataclass

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Shaped

Key = PRNGKeyArray
"""A typed random key, as `jax.random.key` makes them."""

Task = PyTree[Shaped[Array, "..."]]
"""The parameters that tell one task of a family from another: arrays, with a leading axis where there are
many."""


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
    final_observation: Float[Array, "*axes obs"]
    """What followed the last valid step: needed to bootstrap where an episode was cut short."""


class Batch(eqx.Module):
    """What a rule learns from: the steps of one task, with their advantages."""

    observations: Float[Array, "*axes time obs"]
    actions: Float[Array, "*axes time act"] | Int[Array, "*axes time"]
    log_probs: Float[Array, "*axes time"]
    """Under the policy that drew the actions, so that importance ratios are one at that policy."""
    advantages: Float[Array, "*axes time"]
    valid: Bool[Array, "*axes time"]


class MetaBatch(eqx.Module):
    """What a meta-rule learns from: for every task, the data it adapted on and the data it is judged by.

    Every array has the leading axes `[task episode time]`.
    """

    support: tuple[Batch, ...]
    """One batch for each inner step, the k-th drawn by the policy after k steps."""
    query: Batch
    """Drawn by the adapted policy."""
