"""The contract of a sampler."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int, PyTree

from surefoot.envs.base import AbstractFamily
from surefoot.policies.base import AbstractPolicy
from surefoot.types import Continuous, Key, Rollout, Task


class AbstractCollector(ABC):
    """Draws data of one task, batch after batch.

    What it draws depends on its arguments alone: not on the order of calls, on what else is sampled, or on
    how many workers there are.
    """

    env: AbstractFamily
    traceable: ClassVar[bool] = True
    """Whether drawing can be part of a compiled program. Where it cannot, `collect` and `sample` that are
    traced give zeros of the right form, for programs of which only the form is wanted."""
    asynchronous: ClassVar[bool] = False
    """Whether tasks that are submitted are played while the caller goes on."""

    @abstractmethod
    def start(self, policy: AbstractPolicy, task: Task, key: Key) -> PyTree:
        """Where the first batch begins: arrays, or None where every batch begins anew."""

    @abstractmethod
    def collect(self, policy: AbstractPolicy, task: Task, where: PyTree, key: Key) -> tuple[PyTree, Rollout]:
        """The next batch, axes `[episode time ...]`, and where the one after it begins."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Gives back processes, threads and memory. What is drawn afterwards begins with new ones."""


class AbstractSampler(AbstractCollector):
    """Draws a fixed number of whole episodes of a task with a policy."""

    episodes: int
    """Episodes of each task; every one is played to its end or to the horizon."""

    @abstractmethod
    def submit(self, policy: AbstractPolicy, task: Task, key: Key) -> Future[Rollout]:
        """Starts sampling one task; the future holds its rollout, axes `[episode time ...]`, or the
        exception."""

    @abstractmethod
    def sample(
        self, policies: AbstractPolicy, tasks: Task, key: Key, first: Int[Array, ""] | int = 0
    ) -> Rollout:
        """Many tasks, each with its own policy: `policies` and `tasks` have a leading task axis, and so has
        the result.

        Task i is what `submit` gives for its policy, its task and `fold_in(key, first + i)`.
        """


def at_once(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """What a call gave, or its exception, in a future that is done."""
    future: Future[Any] = Future()
    try:
        future.set_result(call(*arguments))
    except Exception as error:  # the contract: exceptions travel in the future
        future.set_exception(error)
    return future


def is_traced(*arguments: Any) -> bool:
    """Whether a program is being made of this call, rather than the call itself."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))


def empty_rollout(env: AbstractFamily, axes: tuple[int, ...]) -> Rollout:
    """A rollout of zeros, `axes` being those of its rows and of time."""
    space = env.action_space
    seen = jnp.zeros((*axes, env.observation_size))
    numbers, flags = jnp.zeros(axes), jnp.zeros(axes, bool)
    done = jnp.zeros((*axes, space.size)) if isinstance(space, Continuous) else jnp.zeros(axes, jnp.int32)
    times = jnp.zeros(axes, jnp.int32)
    return Rollout(seen, done, numbers, numbers, flags, flags, flags, seen, times)
