"""Multi-armed bandits (Duan et al., 2016b, sec. 3.1)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import NonNegative, Options, at_least
from surefoot.types import Discrete, Key, ObservationSpace, vector


@dataclass(frozen=True)
class Bandit(Options, AbstractEnv):
    """Multi-armed bandit, with one pull in each step. Task: the arms' mean rewards, `[arms]`, uniform on
    [0, 1]. The observation is always 1."""

    arms: Annotated[int, at_least(2)] = 10
    """Number of arms."""
    rewards: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Distribution of the rewards; Bernoulli rewards are 0 or 1."""
    noise: Annotated[float, NonNegative] = 1.0
    """Standard deviation of Gaussian rewards."""
    horizon: Annotated[int, at_least(1)] = 10
    """Number of pulls in an episode."""
    time_limit_ends_return = True

    @property
    def observation_space(self) -> ObservationSpace:
        return vector(1)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.arms)

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} {self.arms}"]:
        return jax.random.uniform(key, (n, self.arms))

    def reset(self, key: Key, task: Float[Array, " arms"]) -> tuple[None, Float[Array, "1"]]:
        del key
        return None, jnp.ones(1, task.dtype)

    def step(self, key: Key, state: None, action: Int[Array, ""], task: Float[Array, " arms"]) -> Step:
        mean = task[action]
        if self.rewards == "bernoulli":
            reward = jax.random.bernoulli(key, mean).astype(mean.dtype)
        else:
            reward = mean + self.noise * jax.random.normal(key, (), mean.dtype)
        return Step(state, jnp.ones(1, task.dtype), reward, jnp.zeros((), bool))
