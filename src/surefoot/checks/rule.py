"""The contract kit of rules."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from surefoot.checks.common import (
    all_arrays,
    close,
    describe,
    finite,
    has_methods,
    is_immutable,
    is_instance,
    keeps_no_state,
    same,
    same_form,
)
from surefoot.checks.failure import attempt
from surefoot.checks.problem import Problem, Stop, collect, error, warning
from surefoot.checks.rule_probe import TASKS, RuleProbe, Stepped, stack

_STEPS = 5
_ROUNDING = 0.05
_WHY_FORM = "Training is one compiled program, in which forms are fixed."


def check_rule(rule: Any) -> list[Problem]:
    """All ways in which `rule` breaks the contract of `rules.AbstractRule`; none if it is sound.

    It need not be a subclass. It takes a few steps for a small Gaussian policy, on a surrogate loss of 6
    episodes and on an adapted one of 4 tasks; one that divides batches must be built for no more parts. What
    its code raises is reported, not raised.
    """
    problems = collect([_options], rule)
    return problems or collect(_CHECKS, RuleProbe(rule))


def _options(rule: Any) -> Iterator[Problem]:
    yield from is_instance(rule, "a rule")
    yield from has_methods(rule, ("init", "step"), "surefoot.rules.AbstractRule")
    yield from is_immutable(rule)


def _state_is_arrays(probe: RuleProbe) -> Iterator[Problem]:
    yield from all_arrays(probe.init(probe.policy), "state")


def _step_keeps_the_form(probe: RuleProbe) -> Iterator[Problem]:
    state, (policy, following, _) = probe.first
    yield from same_form(_arrays(probe.policy), _arrays(policy), "policy", _WHY_FORM)
    yield from same_form(_arrays(state), _arrays(following), "state", _WHY_FORM)


def _step_reports_metrics(probe: RuleProbe) -> Iterator[Problem]:
    metrics = probe.first[1][2]
    if not isinstance(metrics, Mapping) or "loss" not in metrics:
        yield error(
            f"The metrics of `step`, {_told(metrics)}, have no 'loss'.",
            "It is logged at every iteration.",
            "Return a dict with the loss before the step under 'loss'.",
        )
        return
    yield from _metric_problems(metrics)
    if not close(jnp.asarray(metrics["loss"]), probe.loss(probe.policy)):
        before = probe.loss(probe.policy)
        yield error(
            f"The metric 'loss' is {metrics['loss']}; before the step the loss was {before}.",
            "Curves of different rules could not be compared.",
            "Report what loss_and_gradient(objective, policy, batch) gives at the policy that was handed in.",
        )


def _metric_problems(metrics: Mapping[Any, Any]) -> Iterator[Problem]:
    for name, value in metrics.items():
        scalar = isinstance(value, jax.Array) and value.shape == ()
        if not (isinstance(name, str) and scalar and jnp.issubdtype(value.dtype, jnp.floating)):
            yield error(
                f"The metric {name!r} is {describe(value)}, not a floating-point scalar with a name.",
                "Metrics are averaged and logged.",
                "Reduce it to a scalar, and convert counts and flags with .astype(loss.dtype).",
            )


def _step_is_pure(probe: RuleProbe) -> Iterator[Problem]:
    given = (probe.policy, probe.batch, probe.init(probe.policy))
    before = jax.tree.map(_copied, given)
    first = probe.step(probe.objective, *given)
    if not same(_arrays(before), _arrays(given)):
        yield error(
            "`step` changes what it is given.",
            "Others still use it; under jit the change is lost.",
            "Build new dicts and lists in place of changing those that come in.",
        )
        return
    if not same(_arrays(first), _arrays(probe.step(probe.objective, *given))):
        yield error(
            "`step` gives different results for the same arguments.",
            "Runs could not be repeated.",
            "Keep what it needs to remember, random keys too, in the rule's state.",
        )
    elif not _same_step(probe.policy, first, probe.compiled(probe.objective, *given)):
        yield error(
            "`step` gives other results under jit than without.",
            "Training runs under jit.",
            "Let the result depend on the arguments and on options that never change.",
        )


def _lowers_the_loss(probe: RuleProbe) -> Iterator[Problem]:
    policy, state = probe.policy, probe.init(probe.policy)
    for _ in range(_STEPS):
        policy, state, _ = probe.compiled(probe.objective, policy, probe.batch, state)
    before, after = float(probe.loss(probe.policy)), float(probe.loss(policy))
    if not after < before:
        yield error(
            f"{_STEPS} steps on one small batch take the loss from {before:.4g} to {after:.4g}.",
            "A rule is there to lower it.",
            "Look at the sign of the step (losses are minimised) and at its size.",
        )


def _tasks_can_be_vmapped(probe: RuleProbe) -> Iterator[Problem]:
    policies, batches = stack(probe.policies), stack(probe.batches)
    states = eqx.filter_vmap(probe.init)(policies)
    step = eqx.filter_jit(eqx.filter_vmap(lambda *given: probe.step(probe.objective, *given)))
    together = attempt("step", step, policies, batches, states)
    for i in range(TASKS):
        given = (probe.policies[i], probe.batches[i], probe.init(probe.policies[i]))
        alone = probe.compiled(probe.objective, *given)
        mine = jax.tree.map(lambda x, i=i: x[i], eqx.filter(together, eqx.is_array))
        if not _same_step(probe.policies[i], mine, alone):
            yield error(
                f"Vmapped over tasks, the step of task {i} is not the one it takes alone.",
                "As an inner rule it takes the steps of all tasks at once.",
                "Write it for one policy and one batch; let nothing depend on an axis for tasks.",
            )
            return


def _improves_adapted_objectives(probe: RuleProbe) -> Iterator[Problem]:
    state, batch = probe.init(probe.policy), probe.meta_batch()
    policy, _, metrics = probe.compiled(probe.meta_objective, probe.policy, batch, state)
    yield from same_form(_arrays(probe.policy), _arrays(policy), "policy", _WHY_FORM)
    if not finite((_arrays(policy), _arrays(metrics))):
        yield error(
            "With an adapted objective, the new policy or its metrics are not finite.",
            "Then the rule cannot meta-learn.",
            "Use the objective's predict, loss, divergence and average alone, and guard divisions and roots.",
        )


def _can_be_differentiated(probe: RuleProbe) -> Iterator[Problem]:
    def loss_after(policy: PyTree) -> Array:
        stepped = probe.rule.step(probe.objective, policy, probe.batch, probe.rule.init(policy))
        return probe.loss(stepped[0])

    try:
        eqx.filter_eval_shape(eqx.filter_grad(loss_after), probe.policy)
    except Exception as failed:
        text = (str(failed).strip().splitlines() or [""])[0]
        yield warning(
            f"No gradient can be taken through `step`: {type(failed).__name__}: {text}",
            "It cannot be the inner rule of second-order meta-learning.",
            "Use lax.scan in place of lax.while_loop, or the rule with --order first.",
        )


def _survives_nan(probe: RuleProbe) -> Iterator[Problem]:
    spoilt = eqx.tree_at(lambda batch: batch.advantages, probe.batch, probe.batch.advantages * jnp.nan)
    policy, _, _ = probe.compiled(probe.objective, probe.policy, spoilt, probe.init(probe.policy))
    yield from same_form(_arrays(probe.policy), _arrays(policy), "policy", _WHY_FORM)


def _keeps_no_state(probe: RuleProbe) -> Iterator[Problem]:
    with suppress(Stop):
        probe.step(probe.objective, probe.policy, probe.batch, probe.init(probe.policy))
    yield from keeps_no_state(probe.before, probe.rule)


def _same_step(start: PyTree, one: Stepped, other: Stepped) -> bool:
    """Whether two steps from `start` agree, but for the rounding that iterative solvers amplify."""
    origin, a, b = map(_flat, (start, one[0], other[0]))
    return bool(np.linalg.norm(a - b) <= _ROUNDING * np.linalg.norm(a - origin) + 1e-6)


def _flat(policy: PyTree) -> np.ndarray:
    leaves = jax.tree.leaves(eqx.filter(policy, eqx.is_inexact_array))
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in leaves])


def _arrays(tree: PyTree) -> PyTree:
    return eqx.filter(tree, lambda x: not callable(x) and not isinstance(x, str))


def _copied(x: Any) -> Any:
    return np.array(x) if isinstance(x, np.ndarray) else x


def _told(metrics: Any) -> str:
    return f"{list(metrics)}" if isinstance(metrics, Mapping) else f"a {type(metrics).__name__}"


_CHECKS = (
    _state_is_arrays,
    _step_keeps_the_form,
    _step_reports_metrics,
    _step_is_pure,
    _lowers_the_loss,
    _tasks_can_be_vmapped,
    _improves_adapted_objectives,
    _can_be_differentiated,
    _survives_nan,
    _keeps_no_state,
)
