"""The contract kit of policies, and of the options that build them."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from surefoot.checks.common import (
    close,
    describe,
    finite,
    has_methods,
    is_immutable,
    is_instance,
    leaves_with_names,
    same,
)
from surefoot.checks.policy_kinds import (
    memory_keeps_its_form,
    outputs_agree,
    rows_are_episodes,
    unrolling_is_acting,
    values_are_numbers,
)
from surefoot.checks.policy_probe import PolicyProbe, built
from surefoot.checks.problem import Problem, collect, error, require
from surefoot.types import ActionSpace, Continuous, Discrete

_SPACES = (Continuous(2), Discrete(3))
_MONTE_CARLO = 4096
_GRID = 81


def check_policy(
    options: Any, *, observation_size: int = 3, action_spaces: Sequence[ActionSpace] = _SPACES
) -> list[Problem]:
    """All ways in which a policy's options, and what they build, break the contract of `policies`; none if
    they are sound.

    A policy is built for each action space. Those it cannot serve it must refuse with a `UserError`; it must
    serve one. Policies that remember or judge are known by `AbstractRecurrentPolicy` and
    `AbstractActorCritic`. What its code raises is reported, not raised.
    """
    problems = collect([_options], options)
    if problems:
        return problems
    problems = collect([_serves], (options, observation_size, action_spaces))
    for space in action_spaces:
        if not isinstance(built(options, observation_size, space), Problem | None):
            problems += collect(_CHECKS, PolicyProbe(options, observation_size, space))
    return list(dict.fromkeys(problems))


def _options(options: Any) -> Iterator[Problem]:
    yield from is_instance(options, "the options of a policy")
    yield from has_methods(options, ("build",), "surefoot.policies.PolicyOptions")
    yield from is_immutable(options)


def _serves(given: tuple[Any, int, Sequence[ActionSpace]]) -> Iterator[Problem]:
    options, observation_size, action_spaces = given
    results = [built(options, observation_size, space) for space in action_spaces]
    yield from (result for result in results if isinstance(result, Problem))
    if all(result is None for result in results):
        yield error(
            f"`build` refuses every action space: {', '.join(map(repr, action_spaces))}.",
            "There is nothing it could be used for.",
            "Build a policy for Continuous or for Discrete actions, and refuse only the other.",
        )


def _build_follows_the_key(probe: PolicyProbe) -> Iterator[Problem]:
    if not same(probe.parameters(probe.policy), probe.parameters(probe.build(probe.key))):
        yield error(
            "`build` gives different parameters for the same key.",
            "A run could not be repeated.",
            "Draw the parameters with jax.random and the key.",
        )


def _has_parameters(probe: PolicyProbe) -> Iterator[Problem]:
    leaves = leaves_with_names(probe.parameters(probe.policy), "policy")
    if not leaves:
        yield error(
            "The policy holds no floating-point arrays.",
            "They are what rules improve.",
            "Make it an equinox Module whose parameters are jnp arrays, in fields that are not static.",
        )
    for name, leaf in leaves:
        if leaf.dtype != jnp.zeros(()).dtype or not finite(leaf):
            yield error(
                f"The parameter `{name}` is {describe(leaf)}{'' if finite(leaf) else ' and not finite'}.",
                "Parameters are finite and of JAX's default floating-point type.",
                f"Initialise it with finite values of dtype {jnp.zeros(()).dtype}.",
            )


def _distribution_has_methods(probe: PolicyProbe) -> Iterator[Problem]:
    yield from probe.lacks(probe.predict(probe.row))


def _actions_fit_the_space(probe: PolicyProbe) -> Iterator[Problem]:
    yield from probe.misfits


def _scores_are_sums(probe: PolicyProbe) -> Iterator[Problem]:
    for observations in (probe.row, probe.rows):
        batch = jnp.zeros(observations.shape[:-1])
        for name, score in probe.scores(observations).items():
            if describe(score) != describe(batch):
                yield error(
                    f"For {describe(observations)} observations, `{name}` is {describe(score)}; it must be "
                    f"{describe(batch)}.",
                    "Each action has one probability, entropy and divergence, whatever its size.",
                    "Sum over action dimensions, and over nothing else.",
                )


def _probabilities_sum_to_one(probe: PolicyProbe) -> Iterator[Problem]:
    total = float(_total_probability(probe))
    if not abs(total - 1.0) < 0.1:
        yield error(
            f"exp(log_prob) adds up to {total:.3g} over all actions, not to 1.",
            "Importance ratios and entropies come out wrong.",
            "Sum the log-probabilities of action dimensions (their mean is not one) and normalise.",
        )


def _total_probability(probe: PolicyProbe) -> Array:
    distribution = probe.distribution(probe.row)
    if isinstance(probe.space, Discrete):
        actions, volume = jnp.arange(probe.space.n, dtype=jnp.int32), 1.0
    elif probe.space.size <= 2:
        actions, volume = _grid(probe.samples(_MONTE_CARLO))
    else:
        return jnp.ones(())
    log_probs = probe.call("log_prob", jax.vmap(distribution.log_prob), actions)
    return jnp.sum(jnp.where(jnp.isfinite(log_probs), jnp.exp(log_probs), 0.0)) * volume


def _grid(samples: Array) -> tuple[Array, Array]:
    """Points that cover all samples with room around them, and the volume that each stands for."""
    low, high = jnp.min(samples, axis=0), jnp.max(samples, axis=0)
    low, high = low - 0.3 * (high - low), high + 0.3 * (high - low)
    axes = [jnp.linspace(a, b, _GRID) for a, b in zip(low, high, strict=True)]
    points = jnp.stack(jnp.meshgrid(*axes), axis=-1).reshape(-1, len(axes))
    return points, jnp.prod((high - low) / (_GRID - 1))


def _entropy_is_that_of_the_samples(probe: PolicyProbe) -> Iterator[Problem]:
    distribution = probe.distribution(probe.row)
    surprises = -probe.call("log_prob", jax.vmap(distribution.log_prob), probe.samples(_MONTE_CARLO))
    yield from _expectation("entropy", distribution.entropy(), surprises, "−E[log p]")


def _kl_is_that_of_the_samples(probe: PolicyProbe) -> Iterator[Problem]:
    old, new = probe.distribution(probe.row), probe.distribution(probe.row, probe.other)
    actions = probe.samples(_MONTE_CARLO)
    ratios = jax.vmap(old.log_prob)(actions) - jax.vmap(new.log_prob)(actions)
    yield from _expectation("kl", old.kl(new), ratios, "E_self[log p_self − log p_other]")


def _expectation(name: str, value: Array, samples: Array, formula: str) -> Iterator[Problem]:
    mean, spread = float(jnp.mean(samples)), float(jnp.std(samples)) / np.sqrt(_MONTE_CARLO)
    if not abs(float(value) - mean) < 0.02 + 6.0 * spread:
        yield error(
            f"`{name}` is {float(value):.3g}, but {formula} over samples is {mean:.3g}.",
            "Trust regions and entropy bonuses rely on it.",
            f"Return {formula}, in nats and summed over action dimensions.",
        )


def _rows_of_a_batch_agree(probe: PolicyProbe) -> Iterator[Problem]:
    require(probe.misfits)
    batch = probe.distribution(probe.rows)
    actions = probe.draw(batch, "mode")
    for i in np.ndindex(probe.rows.shape[:-1]):
        alone = probe.distribution(probe.rows[i])
        told = (batch.log_prob(actions)[i], batch.entropy()[i], actions[i])
        if not close(told, (alone.log_prob(actions[i]), alone.entropy(), probe.draw(alone, "mode"))):
            yield error(
                f"The distribution at row {i} of a batch of observations differs from that of the row alone.",
                "Policies act on single observations and learn from batches of them.",
                "Treat every leading axis of the observations alike: no mean over them, no reshape.",
            )
            return


def _gradient_is_finite(probe: PolicyProbe) -> Iterator[Problem]:
    gradient = probe.gradient()
    if finite(gradient) and any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient)):
        return
    yield error(
        f"The gradient of log_prob is {'zero' if finite(gradient) else 'not finite'}.",
        "No rule could improve the policy.",
        "Look for stop_gradient, rounding or a hard clamp on the way, or for a root or logarithm at zero.",
    )


def _compiles_and_vmaps(probe: PolicyProbe) -> Iterator[Problem]:
    alone = [probe.scores(probe.rows, policy) for policy in (probe.policy, probe.other)]
    together = probe.stacked_scores(probe.rows)
    if not all(close(one, jax.tree.map(lambda x, i=i: x[i], together)) for i, one in enumerate(alone)):
        yield error(
            "Compiled, and vmapped with parameters of its own for each task, the policy behaves otherwise.",
            "Every task adapts its own copy of the policy.",
            "Let the result depend on the module's arrays and the observations alone.",
        )


_CHECKS = (
    _build_follows_the_key,
    _has_parameters,
    _distribution_has_methods,
    _actions_fit_the_space,
    _scores_are_sums,
    _probabilities_sum_to_one,
    _entropy_is_that_of_the_samples,
    _kl_is_that_of_the_samples,
    _rows_of_a_batch_agree,
    _gradient_is_finite,
    _compiles_and_vmaps,
    memory_keeps_its_form,
    rows_are_episodes,
    unrolling_is_acting,
    values_are_numbers,
    outputs_agree,
)
