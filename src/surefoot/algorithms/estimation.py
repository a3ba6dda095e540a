"""From trajectories to what a rule learns from: fit the baseline, compute advantages."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.baselines import AbstractBaseline, LinearFeatures
from surefoot.options import UserError, check
from surefoot.theory.advantages import gae, normalise, successor_values
from surefoot.theory.returns import reward_to_go
from surefoot.types import Batch, Rollout


@dataclass(frozen=True)
class Estimation:
    """How advantages are estimated from one task's episodes."""

    baseline: AbstractBaseline = LinearFeatures()
    discount: float = 0.99
    """γ."""
    gae_lambda: float = 1.0
    """λ of generalised advantage estimation; 1 is the return-to-go less the baseline."""
    normalise: bool = True
    """Give each task's advantages mean 0 and standard deviation 1. It removes the scale between tasks."""
    fit: Literal["cross", "before", "after"] = "cross"
    """What the baseline is fitted to. `cross`: half of the task's episodes are judged by a fit to the other
    half, so no episode's return is in its own baseline and the gradient stays unbiased. `before`: a fit to
    the very episodes it then judges, which shrinks their advantages; the papers' codes do this. `after`: a
    fit to the previous iteration's episodes, of all tasks together."""
    time_limit: Literal["env", "ends", "bootstraps"] = "env"
    """Whether the return ends at the horizon or goes on with the value of the final observation; `env` leaves
    it to the environment."""

    def __post_init__(self) -> None:
        check(0 <= self.discount <= 1, "discount", self.discount, "between 0 and 1")
        check(0 <= self.gae_lambda <= 1, "gae_lambda", self.gae_lambda, "between 0 and 1")

    def validate(self, episodes: int) -> None:
        """Raises `UserError` if so many episodes of a task are too few for these options."""
        if self.fit == "cross" and episodes < 2:
            raise UserError(
                "Cross-fitting a baseline needs 2 episodes or more of each task; use --estimation.fit before."
            )

    def batch(self, rollout: Rollout, previous: PyTree, limit_ends_return: bool) -> Batch:
        """The batch of one task, axes `[episode time ...]`.

        `previous` is what the baseline learned on the iteration before; `limit_ends_return` is the
        environment's word on its time limit.
        """
        rollout = _without_padding(rollout)
        ends = self._limit_ends(limit_ends_return)
        returns = self.returns(rollout, previous, limit_ends_return)
        values, final_values = self._values(rollout, returns, previous)

        def advantages_of(rollout: Rollout, values: Array, final_value: Array) -> Array:
            values = jnp.where(rollout.valid, values, 0.0)
            return gae(
                rollout.rewards,
                _discounts(rollout, self.discount, ends),
                values,
                successor_values(values, rollout.valid, final_value),
                jnp.where(rollout.truncated, 0.0, jnp.asarray(self.gae_lambda, values.dtype)),
            )

        advantages = jax.vmap(advantages_of)(rollout, values, final_values)
        if self.normalise:
            advantages = normalise(advantages, rollout.valid)
        return Batch(rollout.observations, rollout.actions, rollout.log_probs, advantages, rollout.valid)

    def returns(
        self, rollout: Rollout, previous: PyTree, limit_ends_return: bool
    ) -> Float[Array, "episode time"]:
        """Discounted rewards-to-go, the targets of the baseline; bootstrapped with `previous` where the time
        limit is not the end."""
        rollout = _without_padding(rollout)
        ends = self._limit_ends(limit_ends_return)

        def of_episode(rollout: Rollout) -> Array:
            final = _final_value(self.baseline, previous, rollout)
            last = rollout.truncated & (not ends)
            rewards = rollout.rewards + jnp.where(last, self.discount * final, 0.0)
            return reward_to_go(rewards, _discounts(rollout, self.discount, True))

        return jax.vmap(of_episode)(rollout)

    def refit(self, rollout: Rollout, previous: PyTree, limit_ends_return: bool) -> PyTree:
        """The baseline fitted to many tasks' episodes at once, axes `[task episode time ...]`."""
        episodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout)
        returns = self.returns(episodes, previous, limit_ends_return)
        return self.baseline.fit(episodes.observations, returns, episodes.valid)

    def _limit_ends(self, limit_ends_return: bool) -> bool:
        return limit_ends_return if self.time_limit == "env" else self.time_limit == "ends"

    def _values(self, rollout: Rollout, returns: Array, previous: PyTree) -> tuple[Array, Array]:
        """V at every step and at every final observation."""
        if self.fit == "after":
            return _evaluate(self.baseline, previous, rollout)
        if self.fit == "before":
            fitted = self.baseline.fit(rollout.observations, returns, rollout.valid)
            return _evaluate(self.baseline, fitted, rollout)
        half = returns.shape[0] // 2
        parts = [
            jax.tree.map(lambda x, s=s: x[s], (rollout, returns)) for s in (slice(half), slice(half, None))
        ]
        fits = [self.baseline.fit(r.observations, g, r.valid) for r, g in parts]
        judged = [_evaluate(self.baseline, fits[1 - i], parts[i][0]) for i in (0, 1)]
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *judged)


def episode_returns(rollout: Rollout) -> Float[Array, "*axes"]:
    """The undiscounted return of each episode."""
    return jnp.sum(jnp.where(rollout.valid, rollout.rewards, 0.0), axis=-1)


def _without_padding(rollout: Rollout) -> Rollout:
    """Zeros in the padding, whatever stood there: a NaN that is only weighted with zero remains one."""

    def masked(x: Array) -> Array:
        extra = tuple(range(rollout.valid.ndim, x.ndim))
        return jnp.where(jnp.expand_dims(rollout.valid, extra), x, 0)

    return eqx.tree_at(
        lambda r: (r.observations, r.actions, r.log_probs, r.rewards), rollout, replace_fn=masked
    )


def _discounts(rollout: Rollout, discount: float, limit_ends: bool) -> Float[Array, " time"]:
    """γ_t: zero where the return ends, and in padding."""
    ends = rollout.terminated | (rollout.truncated & limit_ends) | ~rollout.valid
    return jnp.where(ends, 0.0, jnp.asarray(discount, rollout.rewards.dtype))


def _final_value(baseline: AbstractBaseline, parameters: PyTree, rollout: Rollout) -> Float[Array, ""]:
    """V of one trajectory's final observation."""
    time = jnp.sum(rollout.valid).astype(rollout.rewards.dtype)
    return baseline.values(parameters, rollout.final_observation[None], time[None])[0]


def _evaluate(baseline: AbstractBaseline, parameters: PyTree, rollout: Rollout) -> tuple[Array, Array]:
    times = jnp.arange(rollout.rewards.shape[-1], dtype=rollout.rewards.dtype)
    values = jax.vmap(lambda observations: baseline.values(parameters, observations, times))
    final = jax.vmap(lambda one: _final_value(baseline, parameters, one))
    return values(rollout.observations), final(rollout)
