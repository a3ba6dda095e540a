"""Agents for tabular MDPs. All of them know the family's distribution: a flat Dirichlet prior of P(·|s, a),
and mean rewards N(1, 1) with noise of variance 1."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.envs import AbstractEnv, TabularMDP
from surefoot.envs.tabular_mdp import MDP
from surefoot.options import Fraction, NonNegative, OpenFraction, UserError, at_least
from surefoot.reference.base import AbstractAgent, Experience
from surefoot.reference.planning import optimistic_backward_induction, plan
from surefoot.types import Key, Task


class Knowledge(eqx.Module):
    """The knowledge of a learner about an MDP, and its plan for the episode."""

    transitions: Float[Array, "states actions states"]
    """Number of transitions seen."""
    rewards: Float[Array, "states actions"]
    """Sum of the rewards seen."""
    values: Float[Array, "time states actions"]
    """Q_t(s, a), by which it acts."""

    @property
    def visits(self) -> Float[Array, "states actions"]:
        """Number of visits of each state and action."""
        return self.transitions.sum(axis=-1)

    @property
    def mean(self) -> MDP:
        """The mean of the posterior."""
        concentration = 1.0 + self.transitions
        transitions = concentration / concentration.sum(axis=-1, keepdims=True)
        return MDP(transitions, (1.0 + self.rewards) / (1.0 + self.visits))

    def sample(self, key: Key) -> MDP:
        """An MDP of the posterior."""
        transition_key, reward_key = jax.random.split(key)
        transitions = jax.random.dirichlet(transition_key, 1.0 + self.transitions)
        noise = jax.random.normal(reward_key, self.rewards.shape, self.rewards.dtype)
        return MDP(transitions, self.mean.rewards + noise / jnp.sqrt(1.0 + self.visits))


class AbstractPlanner(AbstractAgent):
    """Plans at the beginning of each episode and acts greedily by the plan."""

    @abstractmethod
    def values(self, key: Key, state: Knowledge) -> Float[Array, "time states actions"]:
        """The plan for an episode: Q_t(s, a)."""

    def init(self, env: AbstractEnv, task: Task, steps: int) -> Knowledge:
        del task, steps
        pairs = tabular_size(self, env)
        states = pairs[0]
        return Knowledge(jnp.zeros((*pairs, states)), jnp.zeros(pairs), jnp.zeros((env.horizon, *pairs)))

    def begin(self, key: Key, state: Knowledge) -> Knowledge:
        return eqx.tree_at(lambda s: s.values, state, self.values(key, state))

    def act(
        self, key: Key, state: Knowledge, observation: Float[Array, " obs"], time: Int[Array, ""]
    ) -> Int[Array, ""]:
        del key
        return jnp.argmax(state.values[time, jnp.argmax(observation)]).astype(jnp.int32)

    def learn(self, state: Knowledge, step: Experience) -> Knowledge:
        at, to = jnp.argmax(step.observation), jnp.argmax(step.next_observation)
        return Knowledge(
            state.transitions.at[at, step.action, to].add(1.0),
            state.rewards.at[at, step.action].add(step.reward),
            state.values,
        )


def tabular_size(agent: AbstractAgent, env: AbstractEnv) -> tuple[int, int]:
    """The numbers of states and actions. Raises `UserError` if the environment is no tabular MDP."""
    if not isinstance(env, TabularMDP):
        raise UserError(
            f"The agent {type(agent).__name__} counts transitions between states, and the environment is "
            f"{env}; use the environment tabular-mdp."
        )
    return env.states, env.actions


@dataclass(frozen=True)
class PSRL(AbstractPlanner):
    """Posterior sampling: in each episode the best policy of an MDP drawn from the posterior (Strens, 2000;
    Osband et al., 2013)."""

    def values(self, key: Key, state: Knowledge) -> Float[Array, "time states actions"]:
        return plan(state.sample(key), len(state.values))


@dataclass(frozen=True)
class OptimisticPSRL(AbstractPlanner):
    """Optimistic posterior sampling: the largest Q_t(s, a) of several MDPs drawn from the posterior."""

    samples: Annotated[int, at_least(1)] = 10
    """Number of MDPs drawn at the beginning of each episode."""

    def values(self, key: Key, state: Knowledge) -> Float[Array, "time states actions"]:
        horizon = len(state.values)
        keys = jax.random.split(key, self.samples)
        return jnp.max(jax.lax.map(lambda k: plan(state.sample(k), horizon), keys), axis=0)


@dataclass(frozen=True)
class UCRL2(AbstractPlanner):
    """The best policy of the best MDP that is likely, with confidence intervals for the rewards and the
    transitions (Jaksch et al., 2010), planned for the horizon at the beginning of each episode. The intervals
    are around the means of the posterior."""

    delta: Annotated[float, OpenFraction] = 0.05
    """Probability δ that the MDP is outside the intervals."""
    scale: Annotated[float, NonNegative] = 1.0
    """Factor of the intervals' widths. 1 is the paper's; with few episodes it is far too wide to learn
    anything."""

    def values(self, key: Key, state: Knowledge) -> Float[Array, "time states actions"]:
        del key
        states, actions = state.rewards.shape
        visits, seen = jnp.maximum(state.visits, 1.0), jnp.maximum(state.visits.sum(), 1.0)
        log_pairs = jnp.log(2.0 * states * actions * seen / self.delta)
        bonus = self.scale * jnp.sqrt(3.5 * log_pairs / visits)
        log_actions = jnp.log(2.0 * actions * seen / self.delta)
        radius = self.scale * jnp.sqrt(14.0 * states * log_actions / visits)
        mean = state.mean
        optimistic = MDP(mean.transitions, mean.rewards + bonus)
        return optimistic_backward_induction(optimistic, radius, len(state.values))


@dataclass(frozen=True)
class EpsilonGreedy(AbstractPlanner):
    """The best policy of the posterior's mean; in each step of an episode, with a probability of ε, any
    action."""

    epsilon: Annotated[float, Fraction] = 0.1
    """Probability ε of a random action."""

    def values(self, key: Key, state: Knowledge) -> Float[Array, "time states actions"]:
        values = plan(state.mean, len(state.values))
        choose_key, draw_key = jax.random.split(key)
        random = jax.random.bernoulli(choose_key, self.epsilon, values.shape[:2])
        return jnp.where(random[..., None], jax.random.uniform(draw_key, values.shape, values.dtype), values)


@dataclass(frozen=True)
class Optimum(AbstractPlanner):
    """The best policy of the MDP, which it knows: an upper bound."""

    def init(self, env: AbstractEnv, task: Task, steps: int) -> Knowledge:
        del steps
        pairs = tabular_size(self, env)
        return Knowledge(jnp.zeros((*pairs, pairs[0])), jnp.zeros(pairs), plan(task, env.horizon))

    def values(self, key: Key, state: Knowledge) -> Float[Array, "time states actions"]:
        del key
        return state.values
