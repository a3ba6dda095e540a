"""Recall, a task that needs memory."""

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import Options, at_least
from surefoot.types import Discrete, Key, ObservationSpace, vector


class RecallState(eqx.Module):
    """The cue, and the time."""

    cue: Int[Array, ""]
    time: Int[Array, ""]
    """Steps since the episode began."""


@dataclass(frozen=True)
class Recall(Options, AbstractEnv):
    """Recall of a cue that is shown only at the start (the T-maze of Bakker, 2001, without the walking).

    An episode is one cue, `delay` blanks and one query: `delay` + 2 steps. The observation, `[cues + 1]`, is
    first the cue, one-hot, and a 0; then zeros; at last zeros and a 1. The cue is drawn at the reset,
    uniformly. There is one task, an empty array `[0]`. The action at the query earns 1 if it is the cue's
    index and 0 otherwise; no other action has any effect. So the mean return is the fraction recalled: 1 at
    best, and 1 / `cues` for every policy without memory, since the observation at the query is always the
    same.
    """

    cues: Annotated[int, at_least(2)] = 2
    """Number of different cues."""
    delay: Annotated[int, at_least(0)] = 8
    """Number of steps between the cue and the query."""
    time_limit_ends_return = True

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """One step more than an episode has, so that the answer ends it and not the time limit."""
        return self.delay + 3

    @property
    def observation_space(self) -> ObservationSpace:
        return vector(self.cues + 1)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.cues)

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[RecallState, Float[Array, " cues_and_query"]]:
        del task
        cue = jax.random.randint(key, (), 0, self.cues, jnp.int32)
        return RecallState(cue, jnp.zeros((), jnp.int32)), jax.nn.one_hot(cue, self.cues + 1)

    def step(self, key: Key, state: RecallState, action: Int[Array, ""], task: Float[Array, "0"]) -> Step:
        del key, task
        query = self.delay + 1
        answered = state.time == query
        reward = jnp.asarray(answered & (action == state.cue), float)
        following = RecallState(state.cue, state.time + 1)
        observation = jnp.zeros(self.cues + 1).at[-1].set(jnp.asarray(following.time == query, float))
        return Step(following, observation, reward, answered)
