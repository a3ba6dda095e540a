"""Trials: several episodes of the same task, taken for one (Duan et al., 2016b)."""

from dataclasses import dataclass
from typing import Annotated, Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from surefoot.envs.bandit import Bandit
from surefoot.envs.base import AbstractEnv, AbstractFamily, Step, time_limit_field
from surefoot.envs.simulation import AbstractSimulator, JaxSimulator
from surefoot.envs.trial_simulator import NEXT_EPISODE, TrialSimulator, trial_observation
from surefoot.options import Options, UserError, at_least
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace, Task, as_space, vector


class TrialState(eqx.Module):
    """The state of a trial between two steps."""

    episode: PyTree
    """The state of the episode that is under way."""
    time: Int[Array, ""]
    """Steps since that episode began."""
    ended: Int[Array, ""]
    """Number of episodes that have ended."""
    steps: Int[Array, ""]
    """Steps since the trial began."""
    observation: PyTree
    """The episode's last observation, if the next one comes with it; otherwise None."""


@dataclass(frozen=True)
class Trial(Options, AbstractFamily):
    """Trial: several episodes of one task of another family, taken for one episode, so that a policy with a
    memory can adapt within it.

    The observation is a dictionary: `observation` is the family's own, `previous_action` what
    `action_space.encode` makes of the last action, `previous_reward` its reward, and `episode_ended` 1 if it
    ended an episode. All but the first are zero at the first step of a trial. Where an episode ends, by
    itself or at its horizon, the next one of the same task begins at once, and its first observation comes
    with the last reward and with the end of the episode before. The trial is over when its last episode is.
    The return runs on from one episode to the next and ends with the trial.

    With `previous_observation`, the observation before the last action comes as well, under that name.

    Any family can be wrapped. Streams (`--streams`) of a trial need one that is written in JAX.
    """

    env: AbstractFamily = Bandit(arms=5, horizon=1)
    """Family of the tasks."""
    episodes: Annotated[int, at_least(1)] = 10
    """Number of episodes in a trial."""
    previous_observation: bool = False
    """Whether the policy also sees the observation before the last action, and with it the whole transition
    (s, a, r, s′). Without it the memory has to keep it, which takes longer to learn."""
    time_limit_ends_return = True

    @property
    def horizon(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """The number of steps of the longest trial: the episodes times their horizon. Raises `UserError` if
        an episode has none."""
        if not self.env.horizon:
            raise UserError(
                "The episodes of a trial must end, and those of its environment have no time limit; set "
                f"--env.env.{(time_limit_field(self.env) or 'horizon').replace('_', '-')} STEPS."
            )
        return self.episodes * self.env.horizon

    @property
    def releases_gil(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        """Whether the family's simulators do."""
        return self.env.releases_gil

    @property
    def clipping_bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        return self.env.clipping_bounds

    @property
    def is_traceable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        return self.env.is_traceable

    @property
    def trial_episodes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        return self.episodes

    @property
    def observation_space(self) -> ObservationSpace:
        own = as_space(self.env.observation_space)
        space = {
            "observation": own,
            "previous_action": vector(self.action_space.features),
            "previous_reward": vector(1),
            "episode_ended": vector(1),
        }
        return space | ({"previous_observation": own} if self.previous_observation else {})

    @property
    def action_space(self) -> ActionSpace:
        return self.env.action_space

    def sample_tasks(self, key: Key, n: int) -> Task:
        return self.env.sample_tasks(key, n)

    def simulator(self, threads: int) -> AbstractSimulator:
        if self.is_traceable:
            return JaxSimulator(self.reset, self.step)
        return TrialSimulator(self.env, self.episodes, self.previous_observation, threads)

    def reset(self, key: Key, task: Task) -> tuple[TrialState, Observations]:
        """The state and the first observation of a new trial, if the family is traceable."""
        episode, observation = self._episodes.reset(key, task)
        zero = jnp.zeros((), jnp.int32)
        kept = observation if self.previous_observation else None
        before, nothing = jax.tree.map(jnp.zeros_like, kept), jnp.zeros(())
        seen = trial_observation(observation, before, jnp.zeros(self.action_space.features), nothing, nothing)
        return TrialState(episode, zero, zero, zero, kept), seen

    def step(self, key: Key, state: TrialState, action: Array, task: Task) -> Step:
        """One step, if the family is traceable."""
        step = self._episodes.step(key, state.episode, action, task)
        over = step.terminated | (state.time + 1 == self.env.horizon)
        ended, steps = state.ended + over.astype(jnp.int32), state.steps + 1
        begun = self._episodes.reset(jax.random.fold_in(key, NEXT_EPISODE), task)
        begins = over & (ended < self.episodes)
        episode, observation = jax.tree.map(
            lambda new, old: jnp.where(begins, new, old), begun, (step.state, step.observation)
        )
        kept = observation if self.previous_observation else None
        following = TrialState(episode, jnp.where(over, 0, state.time + 1), ended, steps, kept)
        last = (x.astype(float) for x in (self.action_space.encode(action), step.reward, over))
        # At the horizon it is the sampler's time limit that ends it.
        terminated = (ended == self.episodes) & (steps < self.horizon)
        seen = trial_observation(observation, state.observation, *last)
        return Step(following, seen, step.reward, terminated)

    @property
    def _episodes(self) -> AbstractEnv:
        """The family, which then has the methods of an `AbstractEnv`."""
        return cast(AbstractEnv, self.env)


def episode_numbers(observations: Any) -> Int[Array, "*axes time"]:
    """The number of the episode that each step of a trial belongs to, from 0 on."""
    ended = observations["episode_ended"][..., 0] > 0
    return jnp.cumsum(ended.astype(jnp.int32), axis=-1)
