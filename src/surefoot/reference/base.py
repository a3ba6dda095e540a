"""The contract of a reference agent, and its evaluation on many problems."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from surefoot.envs import AbstractEnv
from surefoot.options import Options, UserError, check
from surefoot.types import Discrete, Key, Keys, Task


class Experience(eqx.Module):
    """One step of a problem."""

    observation: Float[Array, " obs"]
    action: Int[Array, ""]
    reward: Float[Array, ""]
    next_observation: Float[Array, " obs"]


class AbstractAgent(Options, ABC):
    """An immutable dataclass of an agent's options. Its methods are pure functions of one problem and are
    vmapped outside; the state is a pytree of arrays."""

    @abstractmethod
    def init(self, env: AbstractEnv, task: Task, steps: int) -> PyTree:
        """The state before the first step of a problem, of which the agent will see `steps` steps. Only an
        agent that is no learner looks at the task. Raises `UserError` if the environment does not suit it."""

    def begin(self, key: Key, state: PyTree) -> PyTree:
        """The state at the beginning of an episode; by default as it is."""
        del key
        return state

    @abstractmethod
    def act(
        self, key: Key, state: PyTree, observation: Float[Array, " obs"], time: Int[Array, ""]
    ) -> Int[Array, ""]:
        """The action at the step `time` of an episode."""

    def learn(self, state: PyTree, step: Experience) -> PyTree:
        """The state after one more step; by default as it is."""
        del step
        return state


@dataclass(frozen=True)
class Random(AbstractAgent):
    """Uniformly random actions, for every environment with one discrete action."""

    def init(self, env: AbstractEnv, task: Task, steps: int) -> Float[Array, " actions"]:
        """The logits of the actions."""
        del task, steps
        if not isinstance(env.action_space, Discrete):
            raise UserError("The agent random draws one of n actions, and this environment's are others.")
        return jnp.zeros(env.action_space.n)

    def act(
        self,
        key: Key,
        state: Float[Array, " actions"],
        observation: Float[Array, " obs"],
        time: Int[Array, ""],
    ) -> Int[Array, ""]:
        del observation, time
        return jax.random.categorical(key, state).astype(jnp.int32)


def _episode(
    agent: AbstractAgent, env: AbstractEnv, task: Task, state: PyTree, key: Key
) -> tuple[PyTree, Float[Array, ""]]:
    """The agent's state after an episode, and the episode's return."""
    begin_key, reset_key, steps_key = jax.random.split(key, 3)
    state = agent.begin(begin_key, state)
    where, observation = env.reset(reset_key, task)
    times = jnp.arange(env.horizon, dtype=jnp.int32)

    def step(carry: Any, at: Any) -> tuple[Any, Float[Array, ""]]:
        state, where, observation, running = carry
        key, time = at
        action_key, step_key = jax.random.split(key)
        action = agent.act(action_key, state, observation, time)
        result = env.step(step_key, where, action, task)
        experience = Experience(observation, action, result.reward, result.observation)
        learned = jax.tree.map(lambda a, b: jnp.where(running, a, b), agent.learn(state, experience), state)
        reward = jnp.where(running, result.reward, 0.0)
        running = running & ~result.terminated
        return (learned, result.state, result.observation, running), reward

    start = (state, where, observation, jnp.ones((), bool))
    (state, *_), rewards = jax.lax.scan(step, start, (jax.random.split(steps_key, len(times)), times))
    return state, jnp.sum(rewards)


def total_rewards(
    agent: AbstractAgent,
    env: AbstractEnv,
    key: Key,
    *,
    problems: int = 1000,
    episodes: int = 1,
    at_once: int = 250,
) -> Float[Array, " problem"]:
    """The total undiscounted reward of `episodes` episodes, for each of `problems` tasks drawn from the
    environment's family (Duan et al., 2016b, sec. 3.1).

    Every agent meets the same tasks with the same key. `at_once` problems are computed together. Raises
    `UserError` if the environment does not suit the agent.
    """
    for name, value in {"problems": problems, "episodes": episodes, "at-once": at_once}.items():
        check(value >= 1, name, value, "1 or more")
    check(env.horizon >= 1, "horizon", env.horizon, "1 or more, for whole episodes")
    task_key, trial_key = jax.random.split(key)
    tasks = env.sample_tasks(task_key, problems)
    keys = jax.random.split(trial_key, problems)
    return _total_rewards(keys, tasks, agent, env, episodes, min(at_once, problems))


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _total_rewards(
    keys: Keys, tasks: Task, agent: AbstractAgent, env: AbstractEnv, episodes: int, at_once: int
) -> Float[Array, " problem"]:
    def of_one(pair: tuple[Key, Task]) -> Float[Array, ""]:
        key, task = pair
        state = agent.init(env, task, episodes * env.horizon)
        turn = partial(_episode, agent, env, task)
        return jnp.sum(jax.lax.scan(turn, state, jax.random.split(key, episodes))[1])

    return jax.lax.map(of_one, (keys, tasks), batch_size=at_once)
