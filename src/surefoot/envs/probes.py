"""Probes: environments whose values are known by hand, to find out what an algorithm gets wrong.

Each asks one thing more than those above it: try them in this order, and look for the fault where the first
fails. V is the value, γ the discount; where a row gives two, they are those of the best and of the random
policy.

| probe | steps | reward | V | what it asks for |
|---|---|---|---|---|
| `ConstantReward` | 1 | 1 | 1 | a value that is fitted, an episode that ends |
| `ObservedReward` | 1 | the observation o, ±1 | o | a value that sees |
| `DelayedReward` | k | 1 at the last | γ^(k−1−t) | discounting, bootstrapping, no padding |
| `EndlessReward` | ∞ | 1 | 1 / (1 − γ) | time limits that are not ends |
| `ActionReward` | 1 | ±1, by the action | 1, 0 | advantages, a policy that learns |
| `ObservedAction` | 1 | ±1, by action and observation | 1, 0 | a policy that sees |

After the last step the observation is that of a first step, so a value that is bootstrapped there by mistake
shows: `ConstantReward` would be worth 1 / (1 − γ).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import check
from surefoot.types import ActionSpace, Continuous, Discrete, Key

Actions = Literal["discrete", "continuous"]


class AbstractProbe(AbstractEnv):
    """An environment that knows its values. There is one task, without content: `[0]`.

    Actions are 0 and 1, or one real number, of which only the sign counts: 0 or less is as 0, more than 0 as
    1. The random policy is the uniform one, or any that is symmetric about 0.
    """

    actions: Actions

    @property
    def action_space(self) -> ActionSpace:
        return Discrete(2) if self.actions == "discrete" else Continuous(1)

    @property
    def time_limit_ends_return(self) -> bool:
        return False

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))

    @abstractmethod
    def optimal_value(self, observation: Float[Array, " obs"], discount: float) -> Float[Array, ""]:
        """The value of the best policy where it sees `observation`, time limit apart: what a learned value
        should be once the policy has learned, too."""

    @abstractmethod
    def random_value(self, observation: Float[Array, " obs"], discount: float) -> Float[Array, ""]:
        """The value of the random policy there: what a learned value should be while the policy is kept as
        it is."""


@dataclass(frozen=True)
class ConstantReward(AbstractProbe):
    """One step, reward 1, observation `[1]`, always 1. Every policy's value is 1."""

    actions: Actions = "discrete"
    horizon = 1

    @property
    def observation_size(self) -> int:
        return 1

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[None, Float[Array, "1"]]:
        del key, task
        return None, jnp.ones(1)

    def step(self, key: Key, state: None, action: Array, task: Float[Array, "0"]) -> Step:
        del key, action, task
        return Step(state, jnp.ones(1), jnp.ones(()), _yes())

    def optimal_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return jnp.ones_like(observation[0])

    def random_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        return self.optimal_value(observation, discount)


@dataclass(frozen=True)
class ObservedReward(AbstractProbe):
    """One step, whose reward is the observation `[1]`: −1 or +1, equally likely. Every policy's value is the
    observation; its mean is 0."""

    actions: Actions = "discrete"
    horizon = 1

    @property
    def observation_size(self) -> int:
        return 1

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        del task
        observation = _coin(key)
        return observation, observation

    def step(self, key: Key, state: Float[Array, "1"], action: Array, task: Float[Array, "0"]) -> Step:
        del key, action, task
        return Step(state, state, state[0], _yes())

    def optimal_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return observation[0]

    def random_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        return self.optimal_value(observation, discount)


@dataclass(frozen=True)
class DelayedReward(AbstractProbe):
    """`steps` steps; the last earns 1 and the others nothing. The observation `[steps]` is the time, one-hot.

    At time t every policy's value is γ^(steps − 1 − t). Rollouts have one step of padding.
    """

    steps: int = 2
    actions: Actions = "discrete"

    def __post_init__(self) -> None:
        check(self.steps >= 2, "steps", self.steps, "2 or more")

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """Steps: one more than an episode has, so that the reward ends it and not the time limit."""
        return self.steps + 1

    @property
    def observation_size(self) -> int:
        return self.steps

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[Int[Array, ""], Float[Array, " steps"]]:
        del key, task
        return jnp.zeros((), jnp.int32), jax.nn.one_hot(0, self.steps)

    def step(self, key: Key, state: Int[Array, ""], action: Array, task: Float[Array, "0"]) -> Step:
        del key, action, task
        last = state == self.steps - 1
        following = (state + 1) % self.steps
        return Step(following, jax.nn.one_hot(following, self.steps), jnp.asarray(last, float), last)

    def optimal_value(self, observation: Float[Array, " steps"], discount: float) -> Float[Array, ""]:
        return observation @ (discount ** jnp.arange(self.steps - 1, -1, -1, dtype=observation.dtype))

    def random_value(self, observation: Float[Array, " steps"], discount: float) -> Float[Array, ""]:
        return self.optimal_value(observation, discount)


@dataclass(frozen=True)
class EndlessReward(AbstractProbe):
    """A reward of 1 at every step, for ever; the sampler cuts it short at the horizon. The observation is
    `[1]`, always 1. Every policy's value is 1 / (1 − γ), and less for one who takes the cut for an end."""

    horizon: int = 10
    actions: Actions = "discrete"

    def __post_init__(self) -> None:
        check(self.horizon >= 1, "horizon", self.horizon, "1 or more")

    @property
    def observation_size(self) -> int:
        return 1

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[None, Float[Array, "1"]]:
        del key, task
        return None, jnp.ones(1)

    def step(self, key: Key, state: None, action: Array, task: Float[Array, "0"]) -> Step:
        del key, action, task
        return Step(state, jnp.ones(1), jnp.ones(()), ~_yes())

    def optimal_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        check(0 <= discount < 1, "discount", discount, "from 0 to below 1: rewards go on for ever")
        return jnp.full_like(observation[0], 1 / (1 - discount))

    def random_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        return self.optimal_value(observation, discount)


@dataclass(frozen=True)
class ActionReward(AbstractProbe):
    """One step: action 1 earns +1 and action 0 earns −1. The observation is `[1]`, always 1. The value of the
    best policy is 1, that of the random policy 0."""

    actions: Actions = "discrete"
    horizon = 1

    @property
    def observation_size(self) -> int:
        return 1

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[None, Float[Array, "1"]]:
        del key, task
        return None, jnp.ones(1)

    def step(self, key: Key, state: None, action: Array, task: Float[Array, "0"]) -> Step:
        del key, task
        return Step(state, jnp.ones(1), _sign(action), _yes())

    def optimal_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return jnp.ones_like(observation[0])

    def random_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return jnp.zeros_like(observation[0])


@dataclass(frozen=True)
class ObservedAction(AbstractProbe):
    """One step, its observation `[1]` −1 or +1, equally likely: after +1, action 1 earns +1 and action 0 −1;
    after −1 it is the other way round. The value of the best policy is 1; that of the random policy is 0, and
    so is the mean return of every policy that does not look."""

    actions: Actions = "discrete"
    horizon = 1

    @property
    def observation_size(self) -> int:
        return 1

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        del task
        observation = _coin(key)
        return observation, observation

    def step(self, key: Key, state: Float[Array, "1"], action: Array, task: Float[Array, "0"]) -> Step:
        del key, task
        return Step(state, state, state[0] * _sign(action), _yes())

    def optimal_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return jnp.ones_like(observation[0])

    def random_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return jnp.zeros_like(observation[0])


def _yes() -> Bool[Array, ""]:
    return jnp.ones((), bool)


def _coin(key: Key) -> Float[Array, "1"]:
    return jax.random.rademacher(key, (1,), float)


def _sign(action: Array) -> Float[Array, ""]:
    """+1 for action 1 or a positive number, −1 for action 0 or any other."""
    return jnp.where(jnp.sum(action) > 0, jnp.ones(()), -jnp.ones(()))
