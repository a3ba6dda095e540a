"""Metrics of an iteration beside those of its rule."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.algorithms.estimator import episode_returns
from surefoot.envs.trial import episode_numbers
from surefoot.types import Rollout

_MILLION = 1_000_000
StepCount = Int[Array, " 2"]
"""Steps of the environment since training began: whole millions, and the rest. (32 bits alone are too few
for a long run of a fast environment.)"""


def no_steps() -> StepCount:
    """The count before the first step."""
    return jnp.zeros(2, jnp.int32)


def count_steps(steps: StepCount, more: Int[Array, ""] | int) -> StepCount:
    """`steps`, and `more` than those."""
    rest = steps[1] + more
    return jnp.stack([steps[0] + rest // _MILLION, rest % _MILLION])


def total_steps(steps: StepCount) -> Float[Array, ""]:
    """The count as a metric; above 16 million it is rounded to seven digits."""
    millions, rest = steps.astype(float)
    return _MILLION * millions + rest


class Progress(eqx.Module):
    """The episodes so far: those in progress in each row, and the last that ended."""

    running_return: Float[Array, " rows"]
    running_length: Float[Array, " rows"]
    last_return: Float[Array, ""]
    """Undiscounted, the mean over the episodes of the last batch in which any ended; 0 before that."""
    last_length: Float[Array, ""]
    """Mean number of steps of the same episodes; 0 before any has ended, since then there is none."""
    steps: StepCount

    @classmethod
    def start(cls, rows: int) -> "Progress":
        """The state before the first episode."""
        # Not NaN for what is unknown: JAX's option to debug NaNs would stop there.
        nothing, unknown = jnp.zeros(rows), jnp.zeros(())
        return cls(nothing, nothing, unknown, unknown, no_steps())

    def after(self, rollout: Rollout) -> "Progress":
        """With one more batch, axes `[episode time ...]`, as it was sampled."""

        def advance(now: tuple[Array, Array], step: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
            reward, valid, ended = step
            total = now[0] + jnp.where(valid, reward, 0.0)
            length = now[1] + valid.astype(total.dtype)
            following = jnp.where(ended, 0.0, total), jnp.where(ended, 0.0, length)
            return following, jnp.stack([total, length])

        ended = (rollout.terminated | rollout.truncated).T
        rows = self.running_return, self.running_length
        rows, seen = jax.lax.scan(advance, rows, (rollout.rewards.T, rollout.valid.T, ended))
        count = jnp.sum(ended).astype(seen.dtype)
        means = jnp.sum(jnp.where(ended[:, None], seen, 0.0), axis=(0, 2)) / jnp.maximum(count, 1.0)
        means = jnp.where(count > 0, means, jnp.stack([self.last_return, self.last_length]))
        steps = count_steps(self.steps, jnp.sum(rollout.valid, dtype=jnp.int32))
        return Progress(*rows, means[0], means[1], steps)

    def describe(self) -> dict[str, Array]:
        """As metrics. Before any episode has ended `episode_length` is 0, and `return` means nothing."""
        return {
            "return": self.last_return,
            "episode_length": self.last_length,
            "steps": total_steps(self.steps),
        }


def count_adaptation(steps: StepCount, rollouts: tuple[Rollout, ...]) -> StepCount:
    """`steps`, and those of the rollouts of every phase."""
    return count_steps(steps, sum((jnp.sum(x.valid, dtype=jnp.int32) for x in rollouts), jnp.int32(0)))


def describe_adaptation(rollouts: tuple[Rollout, ...]) -> dict[str, Float[Array, ""]]:
    """`rollouts` holds those before any adaptation first, those after all of it last."""
    before, after = rollouts[0], rollouts[-1]
    return {
        "return": jnp.mean(episode_returns(after)),
        "episode_length": jnp.mean(jnp.sum(after.valid, axis=-1).astype(after.rewards.dtype)),
        "return_before": jnp.mean(episode_returns(before)),
        "return_after": jnp.mean(episode_returns(after)),
    }


def describe_trials(rollout: Rollout, episodes: int) -> dict[str, Float[Array, ""]]:
    """Returns within trials `[trial time ...]` of this number of episodes: of the first episode, before any
    adaptation, and of the last one."""
    numbers = episode_numbers(rollout.observations)

    def mean_return(number: int) -> Float[Array, ""]:
        counted = rollout.valid & (numbers == number)
        return jnp.mean(jnp.sum(jnp.where(counted, rollout.rewards, 0.0), axis=-1))

    return {"return_before": mean_return(0), "return_after": mean_return(episodes - 1)}
