"""Recall: a memory task that a policy without memory cannot solve."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import check
from surefoot.types import Discrete, Key


class Remembered(eqx.Module):
    """What the environment knows and shows no more."""

    cue: Int[Array, ""]
    time: Int[Array, ""]
    """Steps taken."""


@dataclass(frozen=True)
class Recall(AbstractEnv):
    """Name the cue that was shown at the start (the T-maze of Bakker, 2001, without the walking).

    An episode is one cue, `delay` blanks and one query: `delay` + 2 steps. The observation, `[cues + 1]`, is
    first the cue, one-hot, and a 0; then zeros alone; at last zeros and a 1. The cue is uniform among `cues`
    and drawn at the reset; there is one task, without content: `[0]`. The action at the query earns 1 if it
    is the cue's index and 0 otherwise; no other action has any effect. So the mean return is the fraction
    recalled: 1 at best, and 1 / `cues` for every policy that sees the present observation alone, because at
    the query that is always the same.
    """

    cues: int = 2
    delay: int = 8
    """Steps between the cue and the query."""

    def __post_init__(self) -> None:
        check(self.cues >= 2, "cues", self.cues, "2 or more")
        check(self.delay >= 0, "delay", self.delay, "0 or more")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """Steps: one more than an episode has, so that the answer ends it and not the time limit."""
        return self.delay + 3

    @property
    def best_return(self) -> float:
        """Of a policy that remembers."""
        return 1.0

    @property
    def memoryless_return(self) -> float:
        """Expected, of any policy that does not."""
        return 1.0 / self.cues

    @property
    def observation_size(self) -> int:
        return self.cues + 1

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.cues)

    @property
    def time_limit_ends_return(self) -> bool:
        return True

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[Remembered, Float[Array, " cues_and_query"]]:
        del task
        cue = jax.random.randint(key, (), 0, self.cues, jnp.int32)
        return Remembered(cue, jnp.zeros((), jnp.int32)), jax.nn.one_hot(cue, self.cues + 1)

    def step(self, key: Key, state: Remembered, action: Int[Array, ""], task: Float[Array, "0"]) -> Step:
        del key, task
        query = self.delay + 1
        answered = state.time == query
        reward = jnp.asarray(answered & (action == state.cue), float)
        following = Remembered(state.cue, state.time + 1)
        observation = jnp.zeros(self.cues + 1).at[-1].set(jnp.asarray(following.time == query, float))
        return Step(following, observation, reward, answered)
