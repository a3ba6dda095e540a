"""Data types: trajectories, and the batches that rules learn from.

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
"""An array of random keys."""


def is_key(x: Any) -> bool:
    """Whether `x` is an array of random keys, or stands for one."""
    return isinstance(x, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def without_key(x: Any) -> Any:
    """The data of random keys, and anything else as it is."""
    return jax.random.key_data(x) if is_key(x) else x


def with_key(x: Any, like: Any) -> Array:
    """An array that `without_key` gave, as random keys where `like` is."""
    return jax.random.wrap_key_data(jnp.asarray(x)) if is_key(like) else jnp.asarray(x)


Task = PyTree[Shaped[Array, "..."] | Shaped[np.ndarray, "..."]]
"""The parameters that tell one task of a family from another: arrays, with a leading axis where there are
many. Where the host steps environments they are NumPy's."""


ObservationSpace = PyTree[jax.ShapeDtypeStruct | int]
"""The form of an observation: `vector(size)`, `image(height, width, channels)`, or a dictionary, tuple or
other pytree of them. A whole number stands for a vector of that length."""

Observations = PyTree[Shaped[Array, "..."] | Shaped[np.ndarray, "..."]]
"""Observations with any leading axes: an array, or a pytree of arrays as the observation space has it."""


def vector(size: int) -> jax.ShapeDtypeStruct:
    """The space of vectors of `size` real numbers: floating-point, shape `[size]`."""
    return jax.ShapeDtypeStruct((size,), jnp.result_type(float))


def image(height: int, width: int, channels: int, dtype: Any = np.uint8) -> jax.ShapeDtypeStruct:
    """The space of images, shape `[height, width, channels]`. They are kept as they are, in `dtype`; networks
    divide those of whole numbers by 255."""
    return jax.ShapeDtypeStruct((height, width, channels), np.dtype(dtype))


def as_space(space: ObservationSpace) -> PyTree[jax.ShapeDtypeStruct]:
    """The space with vectors in place of whole numbers."""
    return jax.tree.map(lambda part: vector(part) if isinstance(part, int) else part, space)


def is_image(part: jax.ShapeDtypeStruct) -> bool:
    """Whether a part of an observation space is an image; if not, it is a vector."""
    return len(part.shape) == 3


@dataclass(frozen=True)
class Continuous:
    """Actions are vectors of real numbers: floating-point, shape `[size]`. The environment clips them, if it
    must."""

    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an action."""
        return (self.size,)

    @property
    def features(self) -> int:
        """The length of an action as the input of a network."""
        return self.size

    def encode(self, actions: Float[Array, "*batch act"]) -> Float[Array, "*batch features"]:
        """Actions as inputs of a network: as they are."""
        return actions


@dataclass(frozen=True)
class Discrete:
    """Actions are the integers 0 … n − 1: int32, shape `[]`."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def features(self) -> int:
        return self.n

    def encode(self, actions: Int[Array, "*batch"]) -> Float[Array, "*batch features"]:
        """Actions as inputs of a network: one-hot vectors."""
        return jax.nn.one_hot(actions, self.n)


@dataclass(frozen=True)
class MultiDiscrete:
    """Actions are several integers at once, the i-th from 0 to n_i − 1: int32, shape `[len(counts)]`."""

    counts: tuple[int, ...]
    """n_i."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.counts),)

    @property
    def features(self) -> int:
        return sum(self.counts)

    def encode(self, actions: Int[Array, "*batch act"]) -> Float[Array, "*batch features"]:
        """Actions as inputs of a network: a one-hot vector for each integer, one after another."""
        parts = [jax.nn.one_hot(actions[..., i], n) for i, n in enumerate(self.counts)]
        return jnp.concatenate(parts, axis=-1)


ActionSpace = Continuous | Discrete | MultiDiscrete


def where_rows(condition: Any, yes: PyTree, no: PyTree) -> PyTree:
    """One or the other of two pytrees for each row. The axes of `condition` lead those of every array; none
    for a choice of everything."""

    def choose(a: Any, b: Any) -> Array:
        return jnp.where(jnp.expand_dims(condition, tuple(range(condition.ndim, b.ndim))), a, b)

    return jax.tree.map(choose, yes, no)


def masked(values: PyTree, valid: Bool[Array, "*axes"]) -> PyTree:
    """Arrays `[*axes ...]` with zeros where they are not `valid`, whatever was there."""
    return where_rows(valid, values, jax.tree.map(jnp.zeros_like, values))


class Rollout(eqx.Module):
    """Trajectories as they were sampled, padded to a common length.

    Step `t` has the observation, the action that the policy drew, and the reward after it. The observation
    after it is that of step `t + 1`, or a final one; each is kept once. Steps after an episode's end are
    padding: `valid` is False there, and every other field is zero or meaningless.
    """

    observations: Observations
    actions: Shaped[Array, "..."]
    """As drawn from the policy, before any clipping by the environment: `[*axes time]` or
    `[*axes time act]`."""
    log_probs: Float[Array, "*axes time"]
    """Log-probability (density) of `actions` under the policy that drew them."""
    rewards: Float[Array, "*axes time"]
    terminated: Bool[Array, "*axes time"]
    """True at the step that led into a terminal state, whose value is zero by definition."""
    truncated: Bool[Array, "*axes time"]
    """True at the step at which a time limit cut the episode short; never where `terminated` is."""
    valid: Bool[Array, "*axes time"]
    times: Int[Array, "*axes time"]
    """Steps since the episode began. Zero marks the first step of an episode: whole episodes begin with it,
    and streams have it wherever one episode follows another."""
    final_observations: Observations
    """The observations that no step begins with, in their order: after each truncated step, and after the
    last one. Axes `[*axes final ...]`: a single one of a whole episode; in streams as many as there may be,
    and zeros where there are fewer."""
    memory: PyTree = None
    """Memory of a recurrent policy before the first of these steps, without the time axis. None where every
    trajectory is an episode from its beginning, or the policy has no memory."""

    @property
    def next_observations(self) -> Observations:
        """The observation after each step, before any reset: `[*axes time ...]`. Where an episode of a stream
        terminated, it is not kept: there it is the first one of the next episode."""
        return self.following(self.observations, self.final_observations)

    @property
    def final_times(self) -> Int[Array, "*axes final"]:
        """Steps since the episode began, at each of `final_observations`."""
        count = jnp.cumsum(self._precedes_final, axis=-1)
        finals = jax.tree.leaves(self.final_observations)[0].shape[self.valid.ndim - 1]
        steps = jnp.argmax(count[..., None, :] > jnp.arange(finals)[:, None], axis=-1)
        return jnp.take_along_axis(self.times, steps, axis=-1) + 1

    def following(self, now: PyTree, finals: PyTree) -> PyTree:
        """From something at each step's observation, `[*axes time ...]`, and the same at the final ones,
        `[*axes final ...]`: that at the observation after each step, and zero in padding."""
        axis, is_final = self.valid.ndim - 1, self._precedes_final
        place = jnp.cumsum(is_final, axis=-1, dtype=jnp.int32) - is_final.astype(jnp.int32)

        def choose(now: Array | np.ndarray, finals: Array | np.ndarray) -> Array:
            further = tuple(range(axis + 1, now.ndim))
            final, valid, here = (jnp.expand_dims(x, further) for x in (is_final, self.valid, place))
            of_finals = jnp.take_along_axis(finals, jnp.minimum(here, finals.shape[axis] - 1), axis)
            after = jnp.where(final, of_finals, jnp.roll(now, -1, axis))
            return jnp.where(valid, after, jnp.zeros_like(after))

        return jax.tree.map(choose, now, finals)

    @property
    def _precedes_final(self) -> Bool[Array, "*axes time"]:
        """The steps whose next observation is one of `final_observations`."""
        following = jnp.roll(self.valid, -1, axis=-1).at[..., -1].set(False)
        return self.valid & (self.truncated | ~following)


class Transitions(eqx.Module):
    """Further data of a batch's steps, for losses that need more than actions and advantages."""

    rewards: Float[Array, "*axes time"]
    discounts: Float[Array, "*axes time"]
    """γ_t, zero where an episode ends for good and in padding."""
    values: Float[Array, "*axes time"]
    """V(s_t), with which the advantages were estimated."""
    returns: Float[Array, "*axes time"]
    """Targets of a value function: the advantages, before any normalisation, plus `values`."""
    next_observations: Observations


class Batch(eqx.Module):
    """The steps of one task with their advantages, from which a rule learns."""

    observations: Observations
    actions: Shaped[Array, "..."]
    log_probs: Float[Array, "*axes time"]
    """Log-probabilities of `actions` under the policy that drew them: at that policy all ratios are one."""
    advantages: Float[Array, "*axes time"]
    valid: Bool[Array, "*axes time"]
    transitions: Transitions | None = None
    """Rewards, values and targets, for a loss that needs them; otherwise None."""
    starts: Bool[Array, "*axes time"] | None = None
    """Steps at which a recurrent policy's memory is reset. None where every trajectory is one episode from
    its beginning, or the policy has no memory."""
    memory: PyTree = None
    """As in `Rollout`."""
    advantage_scale: Float[Array, "*axes time"] | None = None
    """The number by which the task's advantages were divided, at each step; None where they were not
    normalised."""


class MetaBatch(eqx.Module):
    """The tasks of one iteration of meta-learning: for each, the episodes that the policy adapts on, and
    those of the adapted policy.

    Every array has the leading axes `[task episode time]`.
    """

    support: tuple[Batch, ...]
    """One batch for each inner step, the k-th drawn by the policy after k steps."""
    query: Batch
    """Episodes drawn by the adapted policy."""
    prepared: dict[str, PyTree] = eqx.field(default_factory=dict)
    """Constants of the terms of the meta-loss, by the term's name; every array has a leading task axis."""
