"""The contract kit of policies, and of the options that build them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from surefoot.algorithms.adaptation import stack
from surefoot.checks import common
from surefoot.checks.policy_calls import BATCH, lacks
from surefoot.checks.policy_capabilities import MemoryChecks, ValueChecks
from surefoot.checks.problem import Problem, Problems, attempt, collect, error, require
from surefoot.options import check
from surefoot.policies.base import partition_by_role
from surefoot.types import ActionSpace, Continuous, Discrete, MultiDiscrete, Observations, ObservationSpace

_SPACES = (Continuous(2), Discrete(3), MultiDiscrete((3, 2)))
_MONTE_CARLO = 4096
_GRID = 81
_CAPABILITY = (
    "derive the class from surefoot.policies.AbstractPolicy or {1}, or write `{0} = False` in it; one that "
    "wraps another policy returns that policy's in a @property"
)


def check_policy(
    options: Any, *, observation_space: ObservationSpace = 3, action_spaces: Sequence[ActionSpace] = _SPACES
) -> list[Problem]:
    """All ways in which a policy's options, and the policies they build, break the contract of `policies`; an
    empty list if they are sound.

    A policy is built for each action space. The options must refuse a space that they cannot serve with a
    `UserError`, and serve one. A policy is checked as a recurrent one or as an actor-critic if its properties
    `is_recurrent` and `predicts_values` say so. An exception in its code is reported, not raised.
    """
    check(len(action_spaces) > 0, "action_spaces", action_spaces, "one space or more")
    every = [PolicyChecks(options, observation_space, space) for space in action_spaces]
    if problems := (common.is_class(options, "the options of a policy") or collect(every[0], "options")):
        return problems
    served = [kit for kit in every if kit.built is not None]
    if not served:
        refused = error(
            f"`build` refuses every action space: {', '.join(map(repr, action_spaces))}. {every[0].refusal}",
            "There is nothing it could be used for.",
            "Build a policy for Continuous or for Discrete actions, and refuse only the other. One for other "
            "observations is checked by surefoot.checks.check_policy(options, observation_space).",
        )
        return [replace(refused, check="serves")]
    found: dict[tuple[str, str], Problem] = {}
    for problem in (problem for kit in served for problem in collect(kit)):
        found.setdefault((problem.severity, problem.what), problem)
    return list(found.values())


class PolicyChecks(MemoryChecks, ValueChecks):
    """The checks of a policy: of any, then of one with a memory, and of one that predicts values."""

    def scores(self, policy: Any, observations: Observations, axes: tuple[int, ...]) -> dict[str, Array]:
        """log_prob of the mode, entropy, and kl to the other policy."""
        require(self.misfits)
        here, there = (self.distribution(x, observations, axes) for x in (policy, self.other))
        return {
            "log_prob": attempt("log_prob", here.log_prob, self.draw(here, "mode")),
            "entropy": attempt("entropy", here.entropy),
            "kl": attempt("kl", here.kl, there),
        }

    @cached_property
    def estimates(self) -> dict[str, Any]:
        """Expectations over many actions at one observation, and the gradient of log_prob, in one compiled
        program."""
        require(self.misfits)
        return attempt("log_prob", eqx.filter_jit(self._estimates), self.policy, self.other)

    def _estimates(self, policy: Any, other: Any) -> dict[str, Any]:
        here, there = (self.distribution(x, self.row, ()) for x in (policy, other))
        keys = jax.random.split(self.key, _MONTE_CARLO)
        actions = attempt("sample", jax.vmap(here.sample), keys)
        log_probs, others = (attempt("log_prob", jax.vmap(x.log_prob), actions) for x in (here, there))
        sampled = self.draw(self.distribution(policy, self.rows, BATCH), "sample")

        def mean_log_prob(policy: Any) -> Array:
            return jnp.mean(self.distribution(policy, self.rows, BATCH).log_prob(sampled))

        return {
            "probability": self._total_probability(here, actions),
            "entropy": (attempt("entropy", here.entropy), -log_probs),
            "kl": (attempt("kl", here.kl, there), log_probs - others),
            "gradient": attempt("log_prob", eqx.filter_grad(mean_log_prob), policy),
        }

    def _total_probability(self, distribution: Any, samples: Array) -> Array:
        """exp(log_prob), added up over all actions or over a grid that covers the samples with a margin."""
        if isinstance(self.space, Discrete):
            actions, volume = jnp.arange(self.space.n, dtype=jnp.int32), 1.0
        elif isinstance(self.space, MultiDiscrete):
            every = np.indices(self.space.counts).reshape(len(self.space.counts), -1).T
            actions, volume = jnp.asarray(every, jnp.int32), 1.0
        elif self.space.size <= 2:
            low, high = jnp.min(samples, axis=0), jnp.max(samples, axis=0)
            low, high = low - 0.3 * (high - low), high + 0.3 * (high - low)
            axes = [jnp.linspace(low[i], high[i], _GRID) for i in range(self.space.size)]
            actions = jnp.stack(jnp.meshgrid(*axes), axis=-1).reshape(-1, len(axes))
            volume = jnp.prod((high - low) / (_GRID - 1))
        else:
            return jnp.ones(())
        log_probs = attempt("log_prob", jax.vmap(distribution.log_prob), actions)
        return jnp.sum(jnp.where(jnp.isfinite(log_probs), jnp.exp(log_probs), 0.0)) * volume

    def check_options(self) -> Problems:
        yield from common.has_methods(self.options, ("build",), "surefoot.policies.PolicyOptions")
        yield from common.is_immutable(self.options)

    def check_serves(self) -> Problems:
        if isinstance(self.built, Problem):
            yield self.built

    def check_states_its_capabilities(self) -> Problems:
        yield from common.has_methods(self.policy, ("roles",), "surefoot.policies.AbstractPolicy")
        for name, kind, methods in (
            ("is_recurrent", "AbstractRecurrentPolicy", ("initial_memory", "act", "unroll")),
            ("predicts_values", "AbstractActorCritic", ("values", "outputs")),
        ):
            why = f"Samplers and algorithms learn from it whether the policy has the methods of {kind}."
            remedy = _CAPABILITY.format(name, kind)
            yield from common.has_attribute(self.policy, name, *common.BOOL, why, remedy)
            if getattr(self.policy, name, False) is True:
                yield from common.has_methods(self.policy, methods, f"surefoot.policies.{kind}")
        if self.predicts_values and not hasattr(self.policy, "auxiliary"):
            yield error(
                "`auxiliary` is missing.",
                "Algorithms take the loss of the policy's auxiliary prediction from it.",
                "Set it to that loss, or to None.",
            )

    def check_roles(self) -> Problems:
        yield from ()
        attempt("roles", partition_by_role, self.policy, "adapted")

    def check_samples_are_made_of_noise(self) -> Problems:
        if self.misfits:
            return
        here = self.distribution(self.policy, self.row, ())
        noise = attempt("noise", here.noise, self.key)
        if not common.close(attempt("sample_from", here.sample_from, noise), self.draw(here, "sample")):
            yield error(
                "`sample_from(noise(key))` is another action than `sample(key)`.",
                "Samplers outside of JAX draw the noise of many steps at once, and make actions of it.",
                "Leave `sample` as AbstractDistribution has it.",
            )
        blank = jax.tree.map(jnp.zeros_like, here)
        if not common.same(attempt("noise", blank.noise, self.key), noise):
            yield error(
                "`noise` depends on the distribution's parameters.",
                "Samplers outside of JAX draw it before there are any.",
                "Draw standard noise of the right shape, and let `sample_from` scale and shift it.",
            )

    def check_build_follows_the_key(self) -> Problems:
        policies = (self.policy, attempt("build", self.build))
        if not common.same(*(eqx.filter(policy, eqx.is_inexact_array) for policy in policies)):
            yield error(
                "`build` gives different parameters for the same key.",
                "A run could not be repeated.",
                "Draw the parameters with jax.random and the key.",
            )

    def check_has_parameters(self) -> Problems:
        leaves = common.leaves_with_names(eqx.filter(self.policy, eqx.is_inexact_array), "policy")
        if not leaves:
            yield error(
                "The policy holds no floating-point arrays.",
                "They are what rules improve.",
                "Make it an equinox Module whose parameters are jnp arrays, in fields that are not static.",
            )
        for name, leaf in leaves:
            also = "" if common.finite(leaf) else " and not finite"
            if leaf.dtype != jnp.zeros(()).dtype or also:
                yield error(
                    f"The parameter `{name}` is {common.describe(leaf)}{also}.",
                    "Parameters are finite and of JAX's default floating-point type.",
                    f"Initialise it with finite values of dtype {jnp.zeros(()).dtype}.",
                )

    def check_distribution_has_methods(self) -> Problems:
        yield from lacks(self.predict(self.policy, self.row, ()))

    def check_actions_fit_the_space(self) -> Problems:
        yield from self.misfits

    def check_scores_are_sums(self) -> Problems:
        for observations, axes, form in self.each:
            for name, score in self.scores(self.policy, observations, axes).items():
                yield from common.has_form(
                    f"For {form} observations, `{name}` is",
                    score,
                    jnp.zeros(axes),
                    "Each action has one probability, entropy and divergence, whatever its size.",
                    "Sum over action dimensions, and over nothing else.",
                )

    def check_rows_of_a_batch_agree(self) -> Problems:
        require(self.misfits)
        batch = self.distribution(self.policy, self.rows, BATCH)
        actions = self.draw(batch, "mode")
        for i in np.ndindex(BATCH):
            row = self.distribution(self.policy, self.at(*i), ())
            told = (batch.log_prob(actions)[i], batch.entropy()[i], actions[i])
            if not common.close(told, (row.log_prob(actions[i]), row.entropy(), self.draw(row, "mode"))):
                yield error(
                    f"The distribution at row {i} of a batch differs from that of its observation by itself.",
                    "Policies act on single observations and learn from batches of them.",
                    "Treat every leading axis of the observations alike: no mean over them, no reshape.",
                )
                return

    def check_compiles_and_vmaps(self) -> Problems:
        policies = (self.policy, self.other)
        compiled = eqx.filter_jit(eqx.filter_vmap(lambda policy: self.scores(policy, self.rows, BATCH)))
        together = attempt("__call__", compiled, stack(policies))
        for i, policy in enumerate(policies):
            if not common.close(
                self.scores(policy, self.rows, BATCH), jax.tree.map(lambda x, i=i: x[i], together)
            ):
                yield error(
                    "Compiled, and vmapped with parameters of its own for each task, the policy behaves "
                    "otherwise.",
                    "Every task adapts its own copy of the policy.",
                    "Let the result depend only on the module's arrays and the observations.",
                )
                return

    def check_probabilities_sum_to_one(self) -> Problems:
        total = float(self.estimates["probability"])
        if not abs(total - 1.0) < 0.1:
            yield error(
                f"exp(log_prob) adds up to {total:.3g} over all actions, not to 1.",
                "Importance ratios and entropies come out wrong.",
                "Sum the log-probabilities of action dimensions (their mean is not one) and normalise.",
            )

    def check_entropy_is_that_of_the_samples(self) -> Problems:
        yield from self._expectation("entropy", "−E[log p]")

    def check_kl_is_that_of_the_samples(self) -> Problems:
        yield from self._expectation("kl", "E_self[log p_self − log p_other]")

    def _expectation(self, name: str, formula: str) -> Problems:
        value, samples = self.estimates[name]
        mean, spread = float(jnp.mean(samples)), float(jnp.std(samples)) / np.sqrt(_MONTE_CARLO)
        if not abs(float(value) - mean) < 0.02 + 6.0 * spread:
            yield error(
                f"`{name}` is {float(value):.3g}, but {formula} over samples is {mean:.3g}.",
                "Trust regions and entropy bonuses rely on it.",
                f"Return {formula}, in nats and summed over action dimensions.",
            )

    def check_gradient_is_finite(self) -> Problems:
        gradient = self.estimates["gradient"]
        if common.finite(gradient) and any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient)):
            return
        yield error(
            f"The gradient of log_prob is {'zero' if common.finite(gradient) else 'not finite'}.",
            "No rule could improve the policy.",
            "Look for stop_gradient, rounding, a hard clamp, or a root or logarithm at zero on the way.",
        )
