"""Episodes played from the host: the policy in JAX, the dynamics wherever their simulator has them."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from surefoot.envs.simulation import AbstractSimulator, EpisodeKeys, Outcome
from surefoot.policies.base import AbstractPolicy, act, initial_memory
from surefoot.samplers.base import at_once
from surefoot.samplers.record import Record
from surefoot.types import Key, Keys, Rollout, Task


def play(
    simulator: AbstractSimulator, horizon: int, policies: AbstractPolicy, tasks: Task, keys: Keys
) -> Rollout:
    """Every episode of every task, to its end or the horizon: `policies` and `tasks` have a leading axis of
    tasks, `keys`, one for each episode, the axes `[task episode]`, and so has the result.

    All that have not ended advance together: one evaluation of the policies and one call of the simulator a
    step. A simulator that leaves Python's lock is given half of each task's episodes at a time, so that the
    policies of one half are evaluated while the other half moves.
    """
    halves = 2 if simulator.leaves_the_lock and keys.shape[1] > 1 else 1
    parts = [keys[:, part] for part in np.array_split(np.arange(keys.shape[1]), halves)]
    begun = [(raw(part.reshape(part.size)), per_row(tasks, part.shape[1])) for part in parts]
    observations = simulator.begin(*jax.tree.map(lambda *x: np.concatenate(x), *begun))
    first = np.cumsum([0, *(part.size for part in parts)]).tolist()
    troupes = [
        _Troupe(Actor(policies, _action_keys(part)), observations[at : at + part.size], at, horizon)
        for at, part in zip(first, parts, strict=False)
    ]
    with ThreadPoolExecutor(1, "surefoot-physics") if halves == 2 else _AtOnce() as stage:
        for time in range(horizon):
            for troupe in troupes:
                troupe.settle()
                if troupe.running:
                    troupe.act(stage, simulator, time)
        for troupe in troupes:
            troupe.settle()
    rollouts = [troupe.record.rollout(part.shape) for troupe, part in zip(troupes, parts, strict=True)]
    return rollouts[0] if halves == 1 else jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *rollouts)


class _AtOnce(Executor):
    """Does what it is given before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return at_once(lambda: fn(*args, **kwargs))


class _Troupe:
    """Episodes that act at once: neighbours among the simulator's rows."""

    def __init__(
        self, actor: "Actor", observations: Float[np.ndarray, "own obs"], first: int, horizon: int
    ) -> None:
        self._actor, self._first, self._horizon = actor, first, horizon
        self._seen = observations.copy()
        self._rows = np.arange(len(observations))
        """Those of its own that have not ended."""
        self._moving: tuple[Any, ...] | None = None
        self.record = Record(horizon, *observations.shape)

    @property
    def running(self) -> bool:
        """Whether any has not ended."""
        return len(self._rows) > 0

    def act(self, stage: Executor, simulator: AbstractSimulator, time: int) -> None:
        """Begins the step at `time`."""
        actions, log_probs = self._actor.act(self._seen, time)
        seen, rows = self._seen, self._rows
        if len(rows) < len(seen):
            seen, actions, log_probs = seen[rows], actions[rows], log_probs[rows]
        outcome = stage.submit(simulator.step, rows + self._first, actions)
        self._moving = time, seen, actions, log_probs, outcome

    def settle(self) -> None:
        """Waits for the step that it began, if any, and records it."""
        if self._moving is None:
            return
        time, seen, actions, log_probs, pending = self._moving
        outcome: Outcome = pending.result()
        times = np.full(len(self._rows), time, np.int32)
        cut = times == self._horizon - 1
        self.record.add(time, self._rows, seen, actions, log_probs, outcome, cut, times)
        self._seen[self._rows] = outcome.observations
        self._rows, self._moving = self._rows[~outcome.terminated], None


@jax.jit
def _action_keys(keys: Keys) -> Keys:
    return jax.vmap(jax.vmap(lambda key: EpisodeKeys.of(key).actions))(keys)


def play_on(
    simulator: AbstractSimulator,
    horizon: int,
    actor: "Actor",
    observations: Float[np.ndarray, "rows obs"],
    times: Int[np.ndarray, " rows"],
    renewals: "Renewals",
    steps: int,
) -> tuple[Record, Float[np.ndarray, "rows obs"], Int[np.ndarray, " rows"]]:
    """So many steps of every row from where it stands, one episode after another: what was played, and where
    the rows stand after it. `times` are the steps since their episodes began."""
    record, rows = Record(steps, *observations.shape), np.arange(len(observations))
    for step in range(steps):
        actions, log_probs = actor.act(observations, step)
        outcome = simulator.step(rows, actions)
        cut = times == horizon - 1
        record.add(step, rows, observations, actions, log_probs, outcome, cut, times)
        ended = outcome.terminated | cut
        observations, times = np.array(outcome.observations), times + 1
        if ended.any():
            again = np.flatnonzero(ended)
            observations[again] = simulator.renew(again, renewals.at(step)[again])
            times[again] = 0
            actor.forget(ended)
    return record, observations, times


class Renewals:
    """The keys of episodes that begin where others end, as simulators take them: by row and step."""

    def __init__(self, key: Key, rows: int) -> None:
        self._keys = jax.random.split(key, rows)

    def at(self, step: int) -> UInt32[np.ndarray, "rows words"]:
        """Those of episodes that begin after this step."""
        return np.asarray(_folded(self._keys, np.int32(step)))


@jax.jit
def _folded(keys: Keys, step: Array) -> Array:
    return jax.random.key_data(jax.vmap(lambda key: jax.random.fold_in(key, step))(keys))


def episode_keys(key: Key, episodes: int) -> Keys:
    """Those of a task's episodes, whatever their number."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(episodes))


def raw(keys: Keys) -> np.ndarray:
    """Keys as simulators take them: `[... words]`."""
    return np.asarray(jax.random.key_data(keys))


def per_row(tasks: Task, episodes: int) -> Task:
    """Each task once for each of its episodes."""
    return jax.tree.map(lambda x: np.repeat(np.asarray(x), episodes, axis=0), tasks)


def alone(tree: PyTree) -> PyTree:
    """With a leading axis of one task."""
    return jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, tree)


class Actor:
    """Policies acting in their episodes: row i belongs to task i // (episodes of a task).

    The noise of an action follows from its row's key and the step's number alone.
    """

    def __init__(self, policies: AbstractPolicy, keys: Keys, memory: PyTree = None) -> None:
        """`policies` have a leading axis of tasks, `keys` the axes `[task episode]`. Without a `memory` of
        these axes every episode is at its beginning."""
        self._arrays, static = eqx.partition(policies, eqx.is_array)
        self._act, self._fresh = _compiled(static)
        self._keys = keys
        self.memory = self._fresh(self._arrays, keys) if memory is None else memory

    def act(self, observations: Float[np.ndarray, "rows obs"], step: int) -> tuple[np.ndarray, np.ndarray]:
        """An action of every row, and its log-probability."""
        actions, log_probs, self.memory = self._act(
            self._arrays, self._keys, self.memory, observations, np.int32(step)
        )
        return np.asarray(actions), np.asarray(log_probs)

    def forget(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """These rows begin a new episode."""
        fresh = self._fresh(self._arrays, self._keys)
        chosen = rows.reshape(self._keys.shape)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(np.expand_dims(chosen, tuple(range(2, new.ndim))), new, old)

        self.memory = jax.tree.map(choose, fresh, self.memory)


@lru_cache
def _compiled(static: AbstractPolicy) -> tuple[Any, Any]:
    """How policies of one kind act and what they remember at first: once for each kind, since to compare two
    modules costs as much as to evaluate them."""

    @jax.jit
    def act_all(
        arrays: AbstractPolicy, keys: Keys, memory: PyTree, observations: Array, step: Array
    ) -> tuple[Array, Array, PyTree]:
        def of_row(policy: AbstractPolicy, key: Key, memory: PyTree, observation: Array) -> Any:
            distribution, memory = act(policy, observation, memory)
            action = distribution.sample(jax.random.fold_in(key, step))
            return action, distribution.log_prob(action), memory

        def of_task(arrays: AbstractPolicy, *rows: Any) -> Any:
            return jax.vmap(partial(of_row, eqx.combine(arrays, static)))(*rows)

        observations = observations.reshape(*keys.shape, -1)
        actions, log_probs, memory = jax.vmap(of_task)(arrays, keys, memory, observations)
        count = keys.size
        return actions.reshape(count, *actions.shape[2:]), log_probs.reshape(count), memory

    @jax.jit
    def fresh(arrays: AbstractPolicy, keys: Keys) -> PyTree:
        def of_task(arrays: AbstractPolicy) -> PyTree:
            return initial_memory(eqx.combine(arrays, static))

        memory = jax.vmap(of_task)(arrays)
        return jax.tree.map(lambda x: jnp.repeat(x[:, None], keys.shape[1], axis=1), memory)

    return act_all, fresh
