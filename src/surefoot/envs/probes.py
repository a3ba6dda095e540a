"""Probes: environments with known values, to find out which part of an algorithm is wrong.

Each needs one thing more than those above it in the table: try them in this order, and look for the error
where the first one fails. V is the value and γ the discount; where a row has two values, they are those of
the best policy and of the random one.

| probe | steps | reward | V | needs |
|---|---|---|---|---|
| `ConstantReward` | 1 | 1 | 1 | a fitted value function, episodes that end |
| `ObservedReward` | 1 | the observation o, ±1 | o | values that depend on the observation |
| `DelayedReward` | k | 1 at the last | γ^(k−1−t) | discounting, bootstrapping, masked padding |
| `EndlessReward` | ∞ | 1 | 1 / (1 − γ) | time limits that are not terminations |
| `ActionReward` | 1 | ±1, by the action | 1, 0 | advantages, a policy that learns |
| `ObservedAction` | 1 | ±1, by action and observation | 1, 0 | actions that depend on the observation |

The observation after the last step is that of a first step, so that a wrong bootstrap there shows:
`ConstantReward` would have the value 1 / (1 − γ).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs.base import AbstractEnv, Step
from surefoot.options import Options, at_least, check
from surefoot.types import ActionSpace, Continuous, Discrete, Key, ObservationSpace, vector

Actions = Literal["discrete", "continuous"]


class AbstractProbe(AbstractEnv):
    """An environment with known values. There is one task, an empty array `[0]`.

    Actions are 0 and 1, or one real number that counts as 1 if it is positive and as 0 otherwise. The random
    policy is the uniform one, or any that is symmetric about 0.
    """

    actions: Actions
    time_limit_ends_return = False

    @property
    def action_space(self) -> ActionSpace:
        return Discrete(2) if self.actions == "discrete" else Continuous(1)

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 0"]:
        del key
        return jnp.zeros((n, 0))

    @abstractmethod
    def optimal_value(self, observation: Float[Array, " obs"], discount: float) -> Float[Array, ""]:
        """The value of the best policy at `observation`, without the time limit: the value that is learned
        with the policy."""

    def random_value(self, observation: Float[Array, " obs"], discount: float) -> Float[Array, ""]:
        """The value of the random policy there: the value that is learned while the policy stays as it is; by
        default the same."""
        return self.optimal_value(observation, discount)


@dataclass(frozen=True)
class AbstractOneStepProbe(AbstractProbe):
    """A probe whose episodes have one step. The observation is `[1]`."""

    actions: Actions = "discrete"
    """Kind of the actions."""
    horizon = 1

    @property
    def observation_space(self) -> ObservationSpace:
        return vector(1)

    def observe(self, key: Key) -> Float[Array, "1"]:
        """The observation of an episode, before and after its step; by default 1."""
        del key
        return jnp.ones(1)

    @abstractmethod
    def reward(self, observation: Float[Array, "1"], sign: Array | float) -> Float[Array, ""]:
        """The reward of an action, whose sign is +1 for action 1 and −1 for action 0."""

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
        del task
        observation = self.observe(key)
        return observation, observation

    def step(self, key: Key, state: Float[Array, "1"], action: Array, task: Float[Array, "0"]) -> Step:
        del key, task
        sign = jnp.where(jnp.sum(action) > 0, jnp.ones(()), -jnp.ones(()))
        return Step(state, state, self.reward(state, sign), jnp.ones((), bool))

    def optimal_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return jnp.maximum(self.reward(observation, 1.0), self.reward(observation, -1.0))

    def random_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        del discount
        return (self.reward(observation, 1.0) + self.reward(observation, -1.0)) / 2


@dataclass(frozen=True)
class ConstantReward(Options, AbstractOneStepProbe):
    """One step with reward 1. The observation is always 1. Every policy's value is 1."""

    def reward(self, observation: Float[Array, "1"], sign: Array | float) -> Float[Array, ""]:
        del sign
        return jnp.ones_like(observation[0])


@dataclass(frozen=True)
class ObservedReward(Options, AbstractOneStepProbe):
    """One step, whose reward is the observation: −1 or +1, equally likely. Every policy's value is the
    observation; its mean is 0."""

    def observe(self, key: Key) -> Float[Array, "1"]:
        return jax.random.rademacher(key, (1,), float)

    def reward(self, observation: Float[Array, "1"], sign: Array | float) -> Float[Array, ""]:
        del sign
        return observation[0]


@dataclass(frozen=True)
class DelayedReward(Options, AbstractProbe):
    """`steps` steps, with reward 1 at the last and 0 before. The observation `[steps]` is the time, one-hot.

    At time t every policy's value is γ^(steps − 1 − t). Rollouts have one step of padding.
    """

    steps: Annotated[int, at_least(2)] = 2
    """Number of steps in an episode."""
    actions: Actions = "discrete"
    """Kind of the actions."""

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """One step more than an episode has, so that the reward ends it and not the time limit."""
        return self.steps + 1

    @property
    def observation_space(self) -> ObservationSpace:
        return vector(self.steps)

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


@dataclass(frozen=True)
class EndlessReward(Options, AbstractProbe):
    """Reward 1 at every step of an episode that never terminates; the sampler truncates it at the horizon.
    The observation `[1]` is always 1. Every policy's value is 1 / (1 − γ), and less for an algorithm that
    takes the time limit for a termination."""

    horizon: Annotated[int, at_least(1)] = 10
    """Number of steps after which an episode is truncated."""
    actions: Actions = "discrete"
    """Kind of the actions."""

    @property
    def observation_space(self) -> ObservationSpace:
        return vector(1)

    def reset(self, key: Key, task: Float[Array, "0"]) -> tuple[None, Float[Array, "1"]]:
        del key, task
        return None, jnp.ones(1)

    def step(self, key: Key, state: None, action: Array, task: Float[Array, "0"]) -> Step:
        del key, action, task
        return Step(state, jnp.ones(1), jnp.ones(()), jnp.zeros((), bool))

    def optimal_value(self, observation: Float[Array, "1"], discount: float) -> Float[Array, ""]:
        check(0 <= discount < 1, "discount", discount, "from 0 to below 1: rewards go on for ever")
        return jnp.full_like(observation[0], 1 / (1 - discount))


@dataclass(frozen=True)
class ActionReward(Options, AbstractOneStepProbe):
    """One step: action 1 earns +1 and action 0 earns −1. The observation is always 1. The value of the best
    policy is 1, that of the random policy 0."""

    def reward(self, observation: Float[Array, "1"], sign: Array | float) -> Float[Array, ""]:
        return jnp.full_like(observation[0], sign)


@dataclass(frozen=True)
class ObservedAction(Options, AbstractOneStepProbe):
    """One step, whose observation is −1 or +1, equally likely. After +1, action 1 earns +1 and action 0 −1;
    after −1 it is the other way round. The value of the best policy is 1; that of the random policy, and of
    every policy that does not depend on the observation, is 0."""

    def observe(self, key: Key) -> Float[Array, "1"]:
        return jax.random.rademacher(key, (1,), float)

    def reward(self, observation: Float[Array, "1"], sign: Array | float) -> Float[Array, ""]:
        return observation[0] * sign
