"""From rollouts to batches: normalisation, the end of the return, the baseline and the advantages."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.algorithms.estimation import Estimation
from surefoot.algorithms.normalisation import Normalisation, Scales
from surefoot.baselines import Samples
from surefoot.envs import AbstractFamily
from surefoot.theory.advantages import advantage_scale, gae, k_step_advantages, normalise
from surefoot.theory.returns import discounted_return, reward_to_go
from surefoot.types import Batch, Key, Rollout, Transitions, masked

Critic = Callable[[Rollout], tuple[Array, Array]]
"""V at every step of a rollout `[episode time ...]` and at the observation after it, axes `[episode time]`;
anything in padding."""


class PreparedRollout(eqx.Module):
    """A rollout made ready to learn from: in the scale that learning sees, with zeros in the padding."""

    rollout: Rollout
    discounts: Float[Array, "*axes time"]
    """γ_t, zero where the return ends, and in padding."""


@dataclass(frozen=True)
class Estimator:
    """Makes batches of rollouts. Its methods take one task, axes `[episode time ...]`, unless they say
    otherwise."""

    estimation: Estimation
    normalisation: Normalisation
    limit_ends_return: bool
    """Whether the return ends at the horizon; if not, it goes on with the value of the final observation."""
    trial_episodes: int | None = None
    """The number of episodes of one task in each trajectory; None if it is a single one and no trial."""

    @classmethod
    def of(
        cls, env: AbstractFamily, estimation: Estimation, normalisation: Normalisation | None = None
    ) -> "Estimator":
        """The estimator for an environment, which decides about the time limit unless the options do."""
        ends = (
            env.time_limit_ends_return if estimation.time_limit == "env" else estimation.time_limit == "ends"
        )
        return cls(estimation, normalisation or Normalisation(), ends, env.trial_episodes)

    def init(self, key: Key, env: AbstractFamily) -> tuple[PyTree, Scales]:
        """The baseline's parameters and the scales before anything is known."""
        baseline = self.estimation.baseline.init(key, env.observation_space, env.horizon)
        return baseline, self.normalisation.init(env.observation_space)

    def acting(self, policy: Any, scales: Scales) -> Any:
        """The policy as it meets the environment, with its observations normalised."""
        return self.normalisation.policy(policy, scales)

    def prepare(self, rollout: Rollout, scales: Scales) -> PreparedRollout:
        """The rollout as learning sees it; any leading axes."""
        rollout = _without_padding(self.normalisation.rollout(rollout, scales))
        ends = rollout.terminated | (rollout.truncated & self.limit_ends_return) | ~rollout.valid
        discount = jnp.asarray(self.estimation.discount, rollout.rewards.dtype)
        return PreparedRollout(rollout, jnp.where(ends, 0.0, discount))

    def batch(self, prepared: PreparedRollout, previous: PyTree, critic: Critic | None = None) -> Batch:
        """The batch of one task. `previous` holds the baseline's parameters of the iteration before. A
        `critic` replaces the baseline."""
        rollout, discounts = prepared.rollout, prepared.discounts
        values, next_values = self._values(prepared, previous, critic)
        advantages = jax.vmap(self._advantages)(prepared, values, next_values)
        transitions = Transitions(
            rollout.rewards, discounts, values, advantages + values, rollout.next_observations
        )
        scale = None
        if self.estimation.normalise:
            scale = jnp.broadcast_to(advantage_scale(advantages, rollout.valid), advantages.shape)
            advantages = normalise(advantages, rollout.valid)
        return Batch(
            rollout.observations,
            rollout.actions,
            rollout.log_probs,
            advantages,
            rollout.valid,
            transitions=transitions,
            starts=None if rollout.memory is None else rollout.times == 0,
            memory=rollout.memory,
            advantage_scale=scale,
        )

    def samples(self, prepared: PreparedRollout, previous: PyTree) -> Samples:
        """The data that the baseline is fitted to. Its targets are what it is subtracted from; where an
        episode is cut short and the time limit is not its end, they go on with the value that `previous`
        gives to what follows."""
        rollout = prepared.rollout
        _, next_values = self._evaluate(previous, rollout)
        return Samples(
            rollout.observations,
            _times(rollout),
            jax.vmap(self._returns)(prepared, next_values),
            rollout.rewards,
            prepared.discounts,
            rollout.next_observations,
            rollout.valid,
        )

    def returns(self, prepared: PreparedRollout, previous: PyTree) -> Float[Array, " episode"]:
        """The discounted return of each episode of a task, in the scale that learning sees. Where an episode
        is cut short and the time limit is not its end, it goes on with the value that `previous` gives."""
        return self.samples(prepared, previous).returns[:, 0]

    def refit(self, prepared: PreparedRollout, previous: PyTree) -> PyTree:
        """The baseline fitted to many tasks' episodes at once, axes `[task episode time ...]`."""
        episodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), prepared)
        return self.estimation.baseline.fit(previous, self.samples(episodes, previous))

    def update(self, scales: Scales, rollout: Rollout) -> Scales:
        """The scales with what a rollout, as it was sampled, adds to them; any leading axes."""
        return self.normalisation.update(scales, rollout, self.estimation.discount)

    def _advantages(
        self, prepared: PreparedRollout, values: Float[Array, " time"], next_values: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        rollout, discounts, options = prepared.rollout, prepared.discounts, self.estimation
        goes_on = jnp.where(rollout.truncated, 0.0, jnp.ones_like(values))
        if options.credit == "k-step":
            return k_step_advantages(rollout.rewards, discounts, values, next_values, goes_on, options.k)
        if options.credit == "gae":
            return gae(rollout.rewards, discounts, values, next_values, options.gae_lambda * goes_on)
        return jnp.where(rollout.valid, self._returns(prepared, next_values) - values, 0.0)

    def _returns(
        self, prepared: PreparedRollout, next_values: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        """The return that a baseline is subtracted from, of one trajectory: the reward-to-go, or the whole
        return at each step."""
        rollout, discounts = prepared.rollout, prepared.discounts
        cut = _cut(rollout)
        within = jnp.where(cut, 0.0, discounts)
        if self.estimation.credit == "whole-return":  # its baseline is no value of what follows
            return jnp.where(rollout.valid, discounted_return(rollout.rewards, within), 0.0)
        return reward_to_go(rollout.rewards + jnp.where(cut, discounts * next_values, 0.0), within)

    def _values(
        self, prepared: PreparedRollout, previous: PyTree, critic: Critic | None
    ) -> tuple[Array, Array]:
        """V at every step and at what it led to; zero in padding. Raises `UserError` if one episode is to be
        cross-fitted."""
        fit, baseline = self.estimation.fit, self.estimation.baseline
        if critic is not None:
            values, following = critic(prepared.rollout)
            return masked((values, following), prepared.rollout.valid)
        if fit == "previous-batch":
            return self._evaluate(previous, prepared.rollout)
        samples = self.samples(prepared, previous)
        if fit == "same-batch":
            return self._evaluate(baseline.fit(previous, samples), prepared.rollout)
        self.estimation.validate(len(samples.returns))
        half = len(samples.returns) // 2
        parts = [
            jax.tree.map(lambda x, s=s: x[s], (prepared.rollout, samples))
            for s in (slice(half), slice(half, None))
        ]
        fits = [baseline.fit(previous, part) for _, part in parts]
        crossed = [self._evaluate(fits[1 - i], parts[i][0]) for i in (0, 1)]
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *crossed)

    def _evaluate(self, parameters: PyTree, rollout: Rollout) -> tuple[Array, Array]:
        """The baseline at every step and at what it led to; zero in padding."""
        values = jax.vmap(partial(self.estimation.baseline.values, parameters))
        now = values(rollout.observations, _times(rollout))
        final_times = rollout.final_times.astype(now.dtype)
        finals = values(rollout.final_observations, final_times)
        return masked(now, rollout.valid), rollout.following(now, finals)


def episode_returns(rollout: Rollout) -> Float[Array, "*axes"]:
    """The undiscounted return of each episode, where every trajectory is one."""
    return jnp.sum(jnp.where(rollout.valid, rollout.rewards, 0.0), axis=-1)


def _without_padding(rollout: Rollout) -> Rollout:
    """Zeros in the padding of real numbers, whatever was there: a NaN that is only weighted with zero remains
    one. Whole numbers, as in pictures, are left as they are."""

    def without(x: Array) -> Array:
        return masked(x, rollout.valid) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return eqx.tree_at(
        lambda r: (r.observations, r.actions, r.log_probs, r.rewards),
        rollout,
        replace_fn=lambda node: jax.tree.map(without, node),
    )


def _cut(rollout: Rollout) -> Array:
    """The steps after which one trajectory knows nothing more, though its return may go on."""
    last = jnp.arange(len(rollout.valid)) == len(rollout.valid) - 1
    return rollout.truncated | (last & rollout.valid & ~rollout.terminated)


def _times(rollout: Rollout) -> Float[Array, "*axes time"]:
    return rollout.times.astype(rollout.rewards.dtype)
