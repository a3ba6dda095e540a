"""From trajectories to what a rule learns from: fit the baseline, compute advantages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.baselines import AbstractBaseline, LinearFeatures, Samples
from surefoot.options import UserError, check
from surefoot.theory.advantages import gae, k_step_advantages, normalise
from surefoot.theory.returns import discounted_return, reward_to_go
from surefoot.types import Batch, Rollout, Transitions

Values = Callable[[Array, Array], Array]
"""V of one trajectory: (observations `[time obs]`, times `[time]`) -> `[time]`."""


@dataclass(frozen=True)
class Estimation:
    """How advantages are estimated from one task's episodes."""

    baseline: AbstractBaseline = LinearFeatures()
    discount: float = 0.99
    """γ."""
    credit: Literal["gae", "k-step", "whole-return"] = "gae"
    """What an action is credited with, less the baseline. `gae`: generalised advantage estimation, the
    reward-to-go where λ is 1. `k-step`: k rewards and the value of what follows them. `whole-return`: the
    return of its whole episode, as plain REINFORCE has it."""
    gae_lambda: float = 1.0
    """λ of generalised advantage estimation; 1 is the return-to-go less the baseline."""
    k: int = 5
    """Rewards that `k-step` counts before the baseline takes over."""
    normalise: bool = True
    """Give each task's advantages mean 0 and standard deviation 1. It removes the scale between tasks, for a
    bias of the order of one over the episodes."""
    fit: Literal["cross-fit", "same-batch", "previous-batch"] = "cross-fit"
    """What the baseline is fitted to. `cross`: half of the task's episodes are judged by a fit to the other
    half, so no episode's return is in its own baseline. `before`: a fit to the very episodes it then judges,
    which shrinks their advantages and biases the gradient; the papers' programs do this. `after`: a
    fit to the previous iteration's episodes, of all tasks together."""
    time_limit: Literal["env", "ends", "bootstraps"] = "env"
    """Whether the return ends at the horizon or goes on with the value of the final observation; `env` leaves
    it to the environment."""

    def __post_init__(self) -> None:
        check(0 <= self.discount <= 1, "discount", self.discount, "between 0 and 1")
        check(0 <= self.gae_lambda <= 1, "gae_lambda", self.gae_lambda, "between 0 and 1")
        check(self.k >= 1, "k", self.k, "1 or more")

    def validate(self, rows: int) -> None:
        """Raises `UserError` if so many episodes (or streams) of a task are too few for these options."""
        if self.fit == "cross-fit" and rows < 2:
            raise UserError(
                "Cross-fitting a baseline needs 2 episodes or more of each task; use --estimation.fit "
                "same-batch."
            )

    def batch(
        self, rollout: Rollout, previous: PyTree, limit_ends_return: bool, critic: Values | None = None
    ) -> Batch:
        """The batch of one task, axes `[episode time ...]`.

        `previous` is what the baseline learned on the iteration before; `limit_ends_return` is the
        environment's word on its time limit. A `critic` is asked instead of the baseline.
        """
        rollout = _without_padding(rollout)
        ends = self._limit_ends(limit_ends_return)
        values, next_values = self._values(rollout, previous, ends, critic)
        advantages = jax.vmap(lambda r, v, w: self._advantages(r, v, w, ends))(rollout, values, next_values)
        transitions = Transitions(
            rollout.rewards,
            _discounts(rollout, self.discount, ends),
            values,
            advantages + values,
            rollout.next_observations,
        )
        if self.normalise:
            advantages = normalise(advantages, rollout.valid)
        remembers = rollout.memory is not None
        return Batch(
            rollout.observations,
            rollout.actions,
            rollout.log_probs,
            advantages,
            rollout.valid,
            transitions=transitions,
            starts=rollout.times == 0 if remembers else None,
            memory=rollout.memory,
        )

    def samples(self, rollout: Rollout, previous: PyTree, limit_ends_return: bool) -> Samples:
        """What the baseline learns from one task's episodes. Its targets are what it is subtracted from;
        where an episode is cut short and the time limit is not its end, they go on with the value that
        `previous` gives to what follows."""
        rollout = _without_padding(rollout)
        ends = self._limit_ends(limit_ends_return)
        _, next_values = self._judge(previous, rollout)
        return Samples(
            rollout.observations,
            _times(rollout),
            jax.vmap(lambda r, v: self._returns(r, v, ends))(rollout, next_values),
            rollout.rewards,
            _discounts(rollout, self.discount, ends),
            rollout.next_observations,
            rollout.valid,
        )

    def refit(self, rollout: Rollout, previous: PyTree, limit_ends_return: bool) -> PyTree:
        """The baseline fitted to many tasks' episodes at once, axes `[task episode time ...]`."""
        episodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout)
        return self.baseline.fit(previous, self.samples(episodes, previous, limit_ends_return))

    def _limit_ends(self, limit_ends_return: bool) -> bool:
        return limit_ends_return if self.time_limit == "env" else self.time_limit == "ends"

    def _advantages(self, rollout: Rollout, values: Array, next_values: Array, ends: bool) -> Array:
        discounts = _discounts(rollout, self.discount, ends)
        goes_on = jnp.where(rollout.truncated, 0.0, jnp.ones_like(values))
        if self.credit == "k-step":
            return k_step_advantages(rollout.rewards, discounts, values, next_values, goes_on, self.k)
        if self.credit == "gae":
            return gae(rollout.rewards, discounts, values, next_values, self.gae_lambda * goes_on)
        return jnp.where(rollout.valid, self._returns(rollout, next_values, ends) - values, 0.0)

    def _returns(self, rollout: Rollout, next_values: Array, ends: bool) -> Array:
        """What a baseline is subtracted from, of one trajectory: the reward-to-go, or the whole return at
        each step."""
        discounts = _discounts(rollout, self.discount, ends)
        cut = _cut(rollout)
        rewards = rollout.rewards + jnp.where(cut, discounts * next_values, 0.0)
        discounts = jnp.where(cut, 0.0, discounts)
        if self.credit == "whole-return":
            whole = discounted_return(rewards, discounts)
            return jnp.where(rollout.valid, whole, 0.0)
        return reward_to_go(rewards, discounts)

    def _values(
        self, rollout: Rollout, previous: PyTree, ends: bool, critic: Values | None
    ) -> tuple[Array, Array]:
        """V at every step and at what it led to; zero in padding."""
        if critic is not None:
            return _evaluate(critic, rollout)
        if self.fit == "previous-batch":
            return self._judge(previous, rollout)
        samples = self.samples(rollout, previous, ends)
        if self.fit == "same-batch":
            return self._judge(self.baseline.fit(previous, samples), rollout)
        half = rollout.rewards.shape[0] // 2
        parts = [
            jax.tree.map(lambda x, s=s: x[s], (rollout, samples)) for s in (slice(half), slice(half, None))
        ]
        fits = [self.baseline.fit(previous, part) for _, part in parts]
        judged = [self._judge(fits[1 - i], parts[i][0]) for i in (0, 1)]
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *judged)

    def _judge(self, parameters: PyTree, rollout: Rollout) -> tuple[Array, Array]:
        return _evaluate(lambda *at: self.baseline.values(parameters, *at), rollout)


def episode_returns(rollout: Rollout) -> Float[Array, "*axes"]:
    """The undiscounted return of each episode, where every trajectory is one."""
    return jnp.sum(jnp.where(rollout.valid, rollout.rewards, 0.0), axis=-1)


def _without_padding(rollout: Rollout) -> Rollout:
    """Zeros in the padding, whatever stood there: a NaN that is only weighted with zero remains one."""

    def masked(x: Array) -> Array:
        extra = tuple(range(rollout.valid.ndim, x.ndim))
        return jnp.where(jnp.expand_dims(rollout.valid, extra), x, 0)

    return eqx.tree_at(
        lambda r: (r.observations, r.actions, r.log_probs, r.rewards, r.next_observations),
        rollout,
        replace_fn=masked,
    )


def _discounts(rollout: Rollout, discount: float, limit_ends: bool) -> Float[Array, "*axes time"]:
    """γ_t: zero where the return ends, and in padding."""
    ends = rollout.terminated | (rollout.truncated & limit_ends) | ~rollout.valid
    return jnp.where(ends, 0.0, jnp.asarray(discount, rollout.rewards.dtype))


def _cut(rollout: Rollout) -> Array:
    """The steps after which one trajectory knows nothing more, though its return may go on."""
    last = jnp.arange(len(rollout.valid)) == len(rollout.valid) - 1
    return rollout.truncated | (last & rollout.valid & ~rollout.terminated)


def _times(rollout: Rollout) -> Float[Array, "*axes time"]:
    return rollout.times.astype(rollout.rewards.dtype)


def _evaluate(values: Values, rollout: Rollout) -> tuple[Array, Array]:
    """V at every step and at what it led to, axes `[episode time]`; zero in padding."""
    times = _times(rollout)
    now = jax.vmap(values)(rollout.observations, times)
    following = jax.vmap(values)(rollout.next_observations, times + 1.0)
    return jnp.where(rollout.valid, now, 0.0), jnp.where(rollout.valid, following, 0.0)
