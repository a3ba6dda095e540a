"""The contract of a sampler, and what all samplers share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, PyTree

from surefoot.envs.base import AbstractFamily
from surefoot.policies.base import AbstractPolicy, initial_memory
from surefoot.samplers.timeline import Timeline
from surefoot.types import Continuous, Key, Keys, Observations, Rollout, Task, as_space


class AbstractCollector(ABC):
    """Draws data of one task, batch after batch.

    The data depend on the arguments alone: not on the order of calls, on what else is sampled, or on the
    number of workers.
    """

    env: AbstractFamily
    traceable: ClassVar[bool] = True
    """Whether sampling can be part of a compiled program. Where it cannot, `collect` and `sample` give zeros
    of the right shapes when they are traced, for programs of which only the shapes are wanted."""
    asynchronous: ClassVar[bool] = False
    """Whether submitted tasks are sampled while the caller goes on."""

    @property
    def timeline(self) -> Timeline | None:
        """The record of what its workers do; None where it has no workers."""
        return None

    @property
    def has_started(self) -> bool:
        """Whether sampling can begin at once: no worker process has to start first."""
        return True

    @abstractmethod
    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> PyTree:
        """The sampler's state before the first batch: arrays, or None where every batch begins with new
        episodes. Raises `UserError` if the environment cannot be sampled in this way."""

    @abstractmethod
    def collect(self, policy: AbstractPolicy, task: Task, state: PyTree, key: Key) -> tuple[PyTree, Rollout]:
        """The state after the next batch, and the batch, axes `[episode time ...]`."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Releases processes, threads and memory. Later calls start new ones."""


class AbstractSampler(AbstractCollector):
    """Samples a fixed number of whole episodes of a task with a policy."""

    episodes: int
    """Number of episodes of each task; every one ends by itself or at the horizon."""

    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> None:
        """None: every batch begins with new episodes."""

    @abstractmethod
    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """Starts sampling one task. The future holds its rollout, axes `[episode time ...]`, or the
        exception."""

    @abstractmethod
    def sample(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""] | int = 0
    ) -> Rollout:
        """Samples many tasks, each with its own policy: `policies` and `tasks` have a leading task axis, and
        so has the result.

        Task i is what `submit` gives for its policy, its task and `fold_in(key, first + i)`.
        """


class AbstractHostSampler(AbstractSampler):
    """A sampler whose episodes are stepped from the host: it cannot be part of a compiled program."""

    traceable = False

    def collect(self, policy: AbstractPolicy, task: Task, state: None, key: Key) -> tuple[None, Rollout]:
        if is_traced(policy, task, key):
            return state, empty_rollout(self.env, (self.episodes, self.env.horizon))
        return state, self.submit(policy, task, key).result()

    def sample(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""] | int = 0
    ) -> Rollout:
        count = jax.tree.leaves(tasks)[0].shape[0]
        if is_traced(policies, tasks, key):
            return empty_rollout(self.env, (count, self.episodes, self.env.horizon))
        return self.sample_on_host(policies, tasks, key, int(first), count)

    @abstractmethod
    def sample_on_host(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: int, count: int
    ) -> Rollout:
        """The result of `sample` for `count` tasks, where nothing is traced."""


class StreamState(eqx.Module):
    """The state of parallel environments between two batches. All axes begin with `stream`."""

    env_state: PyTree
    """The state from which the environments or their simulator continue."""
    observations: Observations
    times: Int[Array, " stream"]
    """Steps since the episode began."""
    memory: PyTree
    """The policy's memory."""


def initial_memories(policy: AbstractPolicy, streams: int) -> PyTree:
    """The memory of a policy at the beginning of an episode, once for each stream: axes `[stream ...]`."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (streams, *x.shape)), initial_memory(policy))


def indexed_keys(key: Key, count: int, first: Int[Array, ""] | int = 0) -> Keys:
    """Keys of `count` tasks or episodes, numbered from `first` on: `key` folded with each one's number,
    whatever the count."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.int32))


def completed(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """The result of a call, or its exception, in a future that is done."""
    future: Future[Any] = Future()
    try:
        future.set_result(call(*arguments))
    except Exception as error:  # the contract: exceptions travel in the future
        future.set_exception(error)
    return future


def is_traced(*arguments: Any) -> bool:
    """Whether JAX is tracing this call to make a program of it: an array in the arguments, or an option."""
    return any(map(_has_tracer, [*jax.tree.leaves(arguments), *arguments]))


def _has_tracer(x: Any) -> bool:
    """Whether it is traced, or an option in it, which is no leaf of a pytree."""
    if isinstance(x, Tracer):
        return True
    if isinstance(x, tuple):
        return any(map(_has_tracer, x))
    return is_dataclass(x) and any(_has_tracer(getattr(x, field.name)) for field in fields(x))


def finals_of_streams(env: AbstractFamily, steps: int) -> int:
    """The number of final observations of a stream of `steps` steps that the time limit alone truncates."""
    return min((steps - 1) // env.horizon + 2, steps) if env.horizon else 1


def empty_arrays(
    env: AbstractFamily, axes: tuple[int, ...], finals: int, zeros: Callable[..., Any]
) -> tuple[Any, ...]:
    """The fields of a `Rollout` in their order, without the memory, each made by `zeros(shape, dtype)`.
    `axes` are those of rows and time; each row has this number of final observations."""
    space = env.action_space
    return (
        empty_observations(env, axes, zeros),
        zeros((*axes, *space.shape), np.float32 if isinstance(space, Continuous) else np.int32),
        zeros(axes, np.float32),  # log-probabilities
        zeros(axes, np.float32),  # rewards
        zeros(axes, np.bool_),  # terminated
        zeros(axes, np.bool_),  # truncated
        zeros(axes, np.bool_),  # valid
        zeros(axes, np.int32),  # times
        empty_observations(env, (*axes[:-1], finals), zeros),
    )


def empty_observations(env: AbstractFamily, axes: tuple[int, ...], zeros: Callable[..., Any]) -> Observations:
    """Observations made by `zeros(shape, dtype)`: real numbers in single precision, whole ones unchanged."""

    def empty(part: jax.ShapeDtypeStruct) -> Any:
        real = jnp.issubdtype(part.dtype, jnp.inexact)
        return zeros((*axes, *part.shape), np.float32 if real else part.dtype)

    return jax.tree.map(empty, as_space(env.observation_space))


def empty_rollout(
    env: AbstractFamily, axes: tuple[int, ...], finals: int = 1, memory: PyTree = None
) -> Rollout:
    """A rollout of zeros; `axes` are those of its rows and of time. Whole episodes have one final
    observation."""
    return Rollout(*empty_arrays(env, axes, finals, jnp.zeros), memory=memory)
