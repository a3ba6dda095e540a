"""Rollouts that are stepped from the host: the policy in JAX, the dynamics in a simulator.

Where policies run on an accelerator, one step is recorded while the next actions are computed.
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int, PyTree, UInt32

from surefoot.envs.simulation import AbstractSimulator, EpisodeKeys, with_rows
from surefoot.policies.base import AbstractPolicy
from surefoot.samplers.action_sampler import ActionSampler
from surefoot.samplers.record import Record
from surefoot.types import Keys, Observations, Task

Words = UInt32[np.ndarray, "*axes words"]
"""The raw data of keys, of which the host can take rows, and which simulators take."""


def rollout_episodes(
    simulator: AbstractSimulator,
    policies: AbstractPolicy,
    tasks: Task,
    keys: UInt32[np.ndarray, "task episode words"],
    record: Record,
    rows: Int[np.ndarray, " rows"],
) -> None:
    """Adds every episode of every task to the record, to its end or the record's last step. `policies` and
    `tasks` have a leading axis of tasks; `keys` and `rows` are the episodes' keys and rows of the record.

    All episodes that have not ended advance together: one evaluation of the policies and one call of the
    simulator for each step.
    """
    action_sampler, last = ActionSampler(policies, _action_keys(keys)), record.steps - 1
    seen = simulator.begin(keys.reshape(len(rows), -1), repeat_rows(tasks, keys.shape[1]))
    going, decided = np.arange(len(rows)), action_sampler.act(seen, 0)
    for time in range(record.steps):
        now, (actions, log_probs) = seen, map(np.asarray, decided)
        if len(going) < len(rows):
            now = jax.tree.map(lambda x, which=going: x[which], now)
            actions, log_probs = actions[going], log_probs[going]
        outcome, times = simulator.step(going, actions), np.full(len(going), time, np.int32)
        seen = with_rows(seen, going, outcome.observations)
        cut = (times == last) | outcome.truncated
        going_on = going[~(outcome.terminated | cut)]
        if len(going_on):
            decided = action_sampler.act(seen, time + 1)
        record.add(time, rows[going], now, actions, log_probs, outcome, cut, times)
        going = going_on
        if not len(going):
            break


def rollout_steps(
    simulator: AbstractSimulator,
    horizon: int,
    action_sampler: ActionSampler,
    observations: Observations,
    times: Int[np.ndarray, " rows"],
    keys: Words,
    record: Record,
    rows: Int[np.ndarray, " rows"],
) -> tuple[Observations, Int[np.ndarray, " rows"]]:
    """Fills the record's `rows` with steps of running environments, one episode after another, and returns
    the observations and times after the last step. `times` are the steps since the episodes began, `keys`
    those from which the keys of new episodes follow."""
    everyone, last = np.arange(len(rows)), record.steps - 1
    decided = action_sampler.act(observations, 0)
    for step in range(record.steps):
        seen, began = observations, times
        actions, log_probs = map(np.asarray, decided)
        outcome = simulator.step(everyone, actions)
        cut = (times == horizon - 1) | outcome.truncated
        observations, times = outcome.observations, times + 1
        ended = outcome.terminated | cut
        if ended.any():
            again = np.flatnonzero(ended)
            first = simulator.renew(again, renewal_keys(keys, step)[again])
            observations = with_rows(observations, again, first)
            times[again] = 0
            action_sampler.forget(ended)
        if step < last:
            decided = action_sampler.act(observations, step + 1)
        record.add(step, rows, seen, actions, log_probs, outcome, cut, began)
    return observations, times


@jax.jit
def _action_keys(words: UInt32[Array, "task episode words"]) -> Array:
    keys = jax.random.wrap_key_data(words)
    return jax.random.key_data(jax.vmap(jax.vmap(lambda key: EpisodeKeys.of(key).actions))(keys))


def renewal_keys(keys: Words, step: int) -> Words:
    """Raw keys of the episodes that begin after this step, where others end. `keys` are the rows' own."""
    return np.asarray(_folded(keys, np.int32(step)))


@jax.jit
def _folded(keys: Array, step: Array) -> Array:
    folded = jax.vmap(lambda key: jax.random.fold_in(key, step))(jax.random.wrap_key_data(keys))
    return jax.random.key_data(folded)


def key_data(keys: Keys) -> Words:
    """The raw data of keys, as simulators take them: `[... words]`."""
    return np.asarray(jax.random.key_data(keys))


def repeat_rows(tasks: Task, episodes: int) -> Task:
    """Each task once for each of its episodes."""
    return jax.tree.map(lambda x: np.repeat(np.asarray(x), episodes, axis=0), tasks)


def add_task_axis(tree: PyTree) -> PyTree:
    """The same arrays with a leading axis of one task."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(_with_an_axis(arrays), rest)


@jax.jit
def _with_an_axis(arrays: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[None], arrays)
