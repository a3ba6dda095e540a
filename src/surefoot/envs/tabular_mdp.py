"""Random tabular MDPs (Duan et al., 2016b, sec. 3.1.2)."""

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import Options, at_least
from surefoot.types import Discrete, Key, ObservationSpace, vector


class MDP(eqx.Module):
    """A tabular MDP, or one for each task."""

    transitions: Float[Array, "*tasks states actions states"]
    """P(s'|s, a)."""
    rewards: Float[Array, "*tasks states actions"]
    """Mean rewards μ(s, a); rewards are drawn from N(μ, 1)."""


@dataclass(frozen=True)
class TabularMDP(Options, AbstractEnv):
    """Random tabular MDP. Task: an `MDP` with μ ~ N(1, 1) and P(·|s, a) from a flat Dirichlet distribution.
    Every episode starts in state 0. The observation is the state, one-hot."""

    states: Annotated[int, at_least(1)] = 10
    """Number of states."""
    actions: Annotated[int, at_least(2)] = 5
    """Number of actions."""
    horizon: Annotated[int, at_least(1)] = 10
    """Number of steps in an episode."""
    time_limit_ends_return = True

    @property
    def observation_space(self) -> ObservationSpace:
        return vector(self.states)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.actions)

    def sample_tasks(self, key: Key, n: int) -> MDP:
        transition_key, reward_key = jax.random.split(key)
        pairs = (n, self.states, self.actions)
        transitions = jax.random.dirichlet(transition_key, jnp.ones(self.states), pairs)
        return MDP(transitions, 1.0 + jax.random.normal(reward_key, pairs))

    def reset(self, key: Key, task: MDP) -> tuple[Int[Array, ""], Float[Array, " states"]]:
        del key
        return jnp.zeros((), jnp.int32), self._observe(jnp.zeros((), jnp.int32), task)

    def step(self, key: Key, state: Int[Array, ""], action: Int[Array, ""], task: MDP) -> Step:
        state_key, reward_key = jax.random.split(key)
        mean = task.rewards[state, action]
        reward = mean + jax.random.normal(reward_key, (), mean.dtype)
        following = jax.random.categorical(state_key, jnp.log(task.transitions[state, action]))
        following = following.astype(jnp.int32)
        return Step(following, self._observe(following, task), reward, jnp.zeros((), bool))

    def _observe(self, state: Int[Array, ""], task: MDP) -> Float[Array, " states"]:
        return jax.nn.one_hot(state, self.states, dtype=task.rewards.dtype)
