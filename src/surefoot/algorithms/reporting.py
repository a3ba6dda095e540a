"""What an iteration says of itself, beside what its rule says."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from surefoot.algorithms.estimation import episode_returns
from surefoot.types import Rollout


class Progress(eqx.Module):
    """The episodes of a single task so far: those in progress in each row, and the last that ended."""

    running_return: Float[Array, " rows"]
    running_length: Float[Array, " rows"]
    last_return: Float[Array, ""]
    """Undiscounted, the mean over the episodes of the last batch in which any ended; NaN before that."""
    last_length: Float[Array, ""]
    steps: Int[Array, ""]
    """Steps of the environment since training began."""

    @classmethod
    def start(cls, rows: int) -> "Progress":
        """Before anything was played."""
        nothing, unknown = jnp.zeros(rows), jnp.full((), jnp.nan, float)
        return cls(nothing, nothing, unknown, unknown, jnp.zeros((), jnp.int32))

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
        steps = self.steps + jnp.sum(rollout.valid, dtype=jnp.int32)
        return Progress(*rows, means[0], means[1], steps)

    def describe(self) -> dict[str, Array]:
        """As metrics."""
        return {"return": self.last_return, "episode_length": self.last_length, "steps": self.steps}


def describe_adaptation(rollouts: tuple[Rollout, ...]) -> dict[str, Float[Array, ""]]:
    """`rollouts` holds those before any adaptation first, those after all of it last."""
    before, after = rollouts[0], rollouts[-1]
    return {
        "return": jnp.mean(episode_returns(after)),
        "episode_length": jnp.mean(jnp.sum(after.valid, axis=-1).astype(after.rewards.dtype)),
        "return_before": jnp.mean(episode_returns(before)),
        "return_after": jnp.mean(episode_returns(after)),
    }
