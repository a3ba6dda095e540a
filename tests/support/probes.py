"""Objectives and environments simple enough to know the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from surefoot.envs import AbstractEnv, Step
from surefoot.theory.objectives import AbstractObjective
from surefoot.types import Continuous, Key, ObservationSpace, Rollout


class Point(eqx.Module):
    """The simplest policy: a vector, beside something that is no parameter."""

    x: Float[Array, " size"]
    label: Int[Array, ""]

    def __init__(self, *x: float) -> None:
        self.x, self.label = jnp.array(x), jnp.array(7, jnp.int32)


class Bowl(AbstractObjective):
    """Loss ½ (x − c)ᵀ diag(a) (x − c); divergence ½ ‖x − x_old‖², whose Fisher matrix is the identity."""

    centre: Float[Array, " size"]
    curvatures: Float[Array, " size"]

    def __init__(self, centre: list[float], curvatures: list[float]) -> None:
        self.centre, self.curvatures = jnp.array(centre), jnp.array(curvatures)

    def predict(self, policy: PyTree, batch: PyTree) -> PyTree:
        return policy.x

    def loss(self, prediction: PyTree, batch: PyTree) -> Float[Array, ""]:
        return 0.5 * jnp.sum(self.curvatures * (prediction - self.centre) ** 2)

    def divergence(self, old: PyTree, new: PyTree, batch: PyTree) -> Float[Array, ""]:
        return 0.5 * jnp.sum((new - old) ** 2)

    def average(self, f: Callable[[Any], PyTree], batch: PyTree) -> PyTree:
        return f(batch)


@dataclass(frozen=True)
class Target(AbstractEnv):
    """One step: the action should equal the task. Reward −(a − task)²; the best policy's mean is the task."""

    goal: float = 1.0
    spread: float = 0.0
    horizon: int = 1
    time_limit_ends_return = True

    @property
    def observation_space(self) -> ObservationSpace:
        return 1

    @property
    def action_space(self) -> Continuous:
        return Continuous(1)

    def sample_tasks(self, key: Key, n: int) -> Float[Array, "{n} 1"]:
        return self.goal + self.spread * jax.random.uniform(key, (n, 1), minval=-1.0)

    def reset(self, key: Key, task: Array) -> tuple[None, Array]:
        return None, jnp.ones(1, task.dtype)

    def step(self, key: Key, state: None, action: Array, task: Array) -> Step:
        return Step(state, jnp.ones(1, task.dtype), -jnp.sum((action - task) ** 2), jnp.zeros((), bool))


@dataclass(frozen=True)
class Clock(AbstractEnv):
    """Counts steps, whatever the action. The observation is the count; the reward is the new count times the
    task. Each episode terminates after a number of steps drawn at its reset, from 1 to twice the horizon."""

    horizon: int = 4
    time_limit_ends_return = False

    @property
    def observation_space(self) -> ObservationSpace:
        return 1

    @property
    def action_space(self) -> Continuous:
        return Continuous(2)

    def sample_tasks(self, key: Key, n: int) -> Array:
        return 1.0 + jax.random.uniform(key, (n,))

    def reset(self, key: Key, task: Array) -> tuple[Any, Array]:
        end = jax.random.randint(key, (), 1, 2 * self.horizon + 1)
        return (jnp.zeros((), jnp.int32), end), jnp.zeros(1)

    def step(self, key: Key, state: Any, action: Array, task: Array) -> Step:
        count, end = state
        following = count + 1
        reward = task * following.astype(task.dtype)
        return Step((following, end), following.astype(task.dtype)[None], reward, following == end)


def rollout_of(
    rewards: list[list[float]],
    lengths: list[int],
    terminated: list[bool],
    *,
    padding: float = 0.0,
) -> Rollout:
    """A hand-made rollout: the observation at step t is [t], actions are 0 with log-probability −1, and every
    floating-point field is `padding` after an episode's end. Episodes that do not terminate are truncated."""
    steps = jnp.arange(len(rewards[0]))
    valid = steps < jnp.array(lengths)[:, None]
    last = steps == jnp.array(lengths)[:, None] - 1
    ended = jnp.array(terminated)[:, None]
    shape = valid.shape
    count = jnp.broadcast_to(steps.astype(float), shape)
    return Rollout(
        observations=jnp.where(valid, count, padding)[..., None],
        actions=jnp.where(valid, jnp.zeros(shape), padding)[..., None],
        log_probs=jnp.where(valid, -jnp.ones(shape), padding),
        rewards=jnp.where(valid, jnp.array(rewards), padding),
        terminated=last & ended,
        truncated=last & ~ended,
        valid=valid,
        times=jnp.broadcast_to(steps, shape),
        final_observations=jnp.array(lengths, float)[:, None, None],
    )
