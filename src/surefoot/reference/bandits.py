"""Agents for Bernoulli bandits. All of them know that the arms' means are uniform on [0, 1]."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs import AbstractEnv, Bandit
from surefoot.options import Fraction, NonNegative, UserError, check
from surefoot.reference.base import AbstractAgent, Experience
from surefoot.reference.gittins import gittins_index
from surefoot.types import Key, Task


class Counts(eqx.Module):
    """The knowledge of a learner about the arms: counts of their rewards."""

    successes: Float[Array, " arms"]
    failures: Float[Array, " arms"]
    steps: int = eqx.field(static=True)
    """Number of pulls in all."""

    @property
    def pulls(self) -> Float[Array, " arms"]:
        """The number of pulls of each arm."""
        return self.successes + self.failures

    @property
    def means(self) -> Float[Array, " arms"]:
        """The mean of the posterior, Beta(1 + successes, 1 + failures)."""
        return (1.0 + self.successes) / (2.0 + self.pulls)


class AbstractIndexAgent(AbstractAgent):
    """Pulls the arm with the largest index; of equal ones the first."""

    @abstractmethod
    def indices(self, key: Key, counts: Counts) -> Float[Array, " arms"]:
        """The index of every arm."""

    def init(self, env: AbstractEnv, task: Task, steps: int) -> Counts:
        del task
        arms = bernoulli_arms(self, env)
        return Counts(jnp.zeros(arms), jnp.zeros(arms), steps)

    def act(
        self, key: Key, state: Counts, observation: Float[Array, " obs"], time: Int[Array, ""]
    ) -> Int[Array, ""]:
        del observation, time
        return jnp.argmax(self.indices(key, state)).astype(jnp.int32)

    def learn(self, state: Counts, step: Experience) -> Counts:
        one = jax.nn.one_hot(step.action, len(state.successes), dtype=state.successes.dtype)
        reward = step.reward
        return Counts(state.successes + one * reward, state.failures + one * (1.0 - reward), state.steps)


def bernoulli_arms(agent: AbstractAgent, env: AbstractEnv) -> int:
    """The number of arms. Raises `UserError` if the environment is no Bernoulli bandit."""
    if not isinstance(env, Bandit) or env.rewards != "bernoulli":
        raise UserError(
            f"The agent {type(agent).__name__} counts successes and failures of a Bernoulli bandit, and the "
            f"environment is {env}; use the environment bandit with --env.rewards bernoulli."
        )
    return env.arms


@dataclass(frozen=True)
class GittinsIndex(AbstractIndexAgent):
    """The arm with the largest Gittins index, for the number of pulls that are left (Gittins, 1979;
    Niño-Mora, 2011). With several arms and a finite number of pulls it is nearly optimal."""

    def indices(self, key: Key, counts: Counts) -> Float[Array, " arms"]:
        del key
        left = counts.steps - jnp.sum(counts.pulls).astype(jnp.int32)
        s, f = (x.astype(jnp.int32) for x in (counts.successes, counts.failures))
        return jnp.asarray(gittins_index(counts.steps), counts.successes.dtype)[left - 1, s, f]


def bayes_optimal_reward(arms: int, pulls: int) -> float:
    """The largest mean total reward that any learner can have, over all problems with these sizes.

    Backward induction over the counts of successes and failures. Arms with the same counts are
    interchangeable, so that the states are multisets of counts: some 3,500 for 5 arms and 10 pulls. Far
    larger problems take too long. Raises `UserError` for no arms, and for more pulls than 200.
    """
    check(arms >= 1, "arms", arms, "1 or more")
    check(0 <= pulls <= 200, "pulls", pulls, "from 0 to 200")

    @cache
    def value(counts: tuple[tuple[int, int], ...], left: int) -> float:
        return max(after_pull(counts, arm, left) for arm in range(arms)) if left else 0.0

    def after_pull(counts: tuple[tuple[int, int], ...], arm: int, left: int) -> float:
        others, (s, f) = counts[:arm] + counts[arm + 1 :], counts[arm]
        success, failure = (tuple(sorted((*others, one))) for one in ((s + 1, f), (s, f + 1)))
        p = (s + 1) / (s + f + 2)
        return p * (1.0 + value(success, left - 1)) + (1.0 - p) * value(failure, left - 1)

    return value(((0, 0),) * arms, pulls)


@dataclass(frozen=True)
class ThompsonSampling(AbstractIndexAgent):
    """The arm with the largest sample of the posterior of its mean (Thompson, 1933)."""

    def indices(self, key: Key, counts: Counts) -> Float[Array, " arms"]:
        return jax.random.beta(key, 1.0 + counts.successes, 1.0 + counts.failures)


@dataclass(frozen=True)
class UCB1(AbstractIndexAgent):
    """The arm with the largest upper confidence bound, p̂ + c √(2 log t / n), with t pulls in all and n of the
    arm (Auer et al., 2002). Each arm's statistics begin with one success and one failure."""

    scale: Annotated[float, NonNegative] = 1.0
    """Scale c of the confidence interval. 1 is the paper's, far smaller ones do better on few pulls."""

    def indices(self, key: Key, counts: Counts) -> Float[Array, " arms"]:
        del key
        known = 2.0 + counts.pulls
        return counts.means + self.scale * jnp.sqrt(2.0 * jnp.log(jnp.sum(known)) / known)


@dataclass(frozen=True)
class EpsilonGreedyArm(AbstractIndexAgent):
    """The arm with the largest posterior mean; with a probability of ε any arm."""

    epsilon: Annotated[float, Fraction] = 0.1
    """Probability ε of a random arm."""

    def indices(self, key: Key, counts: Counts) -> Float[Array, " arms"]:
        choose_key, draw_key = jax.random.split(key)
        drawn = jax.random.uniform(draw_key, counts.means.shape, counts.means.dtype)
        return jnp.where(jax.random.bernoulli(choose_key, self.epsilon), drawn, counts.means)


@dataclass(frozen=True)
class BestArm(AbstractAgent):
    """The arm with the largest mean, which it knows: an upper bound."""

    def init(self, env: AbstractEnv, task: Task, steps: int) -> Float[Array, " arms"]:
        del steps
        bernoulli_arms(self, env)
        return task

    def act(
        self, key: Key, state: Float[Array, " arms"], observation: Float[Array, " obs"], time: Int[Array, ""]
    ) -> Int[Array, ""]:
        del key, observation, time
        return jnp.argmax(state).astype(jnp.int32)
