"""Multi-armed bandits: a task is the arms' means (Duan et al., 2016b, sec. 3.1)."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import check
from surefoot.types import Discrete, Key


@dataclass(frozen=True)
class Bandit(AbstractEnv):
    """K arms, one pull a step. Task: the means, `[arms]`, uniform on [0, 1]. The observation is a constant
    1."""

    arms: int = 10
    rewards: Literal["bernoulli", "gaussian"] = "bernoulli"
    noise: float = 1.0
    """Standard deviation of Gaussian rewards; Bernoulli rewards are 0 or 1."""
    horizon: int = 10
    """Pulls in an episode."""

    def __post_init__(self) -> None:
        check(self.arms >= 2, "arms", self.arms, "2 or more")
        check(self.noise >= 0, "noise", self.noise, "0 or more")
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")

    @property
    def observation_size(self) -> int:
        return 1

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.arms)

    @property
    def time_limit_ends_return(self) -> bool:
        return True

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
