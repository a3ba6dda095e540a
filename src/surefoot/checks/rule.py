"""The contract kit of rules."""

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from surefoot.algorithms.adaptation import stack
from surefoot.checks import common
from surefoot.checks.problem import Problem, Problems, attempt, collect, error, summary, warning
from surefoot.loading import FAILURES
from surefoot.policies import AbstractPolicy, GaussianMLP
from surefoot.rules import GradientStep
from surefoot.theory.averages import valid_mean
from surefoot.theory.meta import adapted
from surefoot.theory.objectives import AbstractObjective, PolicyObjective, reinforce, surrogate
from surefoot.types import Batch, Continuous, Key, MetaBatch

_TASKS = 2
_META_TASKS = 4
_EPISODES, _TIME, _SIZE = 6, 4, 2
_SEED = 7
_STEPS = 5
_ROUNDING = 0.05
_BENT = 100.0
_THRESHOLD = 1e-3
_WHY_FORM = "Training is one compiled program, in which forms are fixed."
_CAPABILITIES = {
    "requires_surrogate": ("Only a rule that says False is given the pseudo-loss `reinforce`.", True),
    "takes_several_steps": (
        "Algorithms learn from it whether one call takes many steps on its batch.",
        False,
    ),
    "measures_by_kl": ("The KL does not bound how far a step moves the values of an actor-critic.", False),
}
_CAPABILITY = (
    "derive the class from surefoot.rules.AbstractRule, or write `{} = {}` in it; one that wraps another "
    "rule returns that rule's in a @property"
)

Stepped = tuple[PyTree, PyTree, Any]


def check_rule(rule: Any) -> list[Problem]:
    """All ways in which `rule` breaks the contract of `rules.AbstractRule`; an empty list if it is sound.

    It need not be a subclass here; training takes no other. It takes a few steps for a small Gaussian policy,
    on a surrogate loss of 6 episodes and on an adapted one of 4 tasks; one that divides batches must be built
    for no more parts. An exception in its code is reported, not raised.
    """
    kit = RuleChecks(rule)
    return common.is_class(rule, "a rule") or collect(kit, "options") or collect(kit)


class BentObjective(AbstractObjective):
    """The surrogate loss, plus a constant, plus a multiple of max(|log π(a|s) − log π_old(a|s)| − 10⁻³, 0)².

    At the policy that drew the data its gradient is that of the surrogate and of `reinforce`, whatever the
    two coefficients are: rounding of the log-probabilities stays below the threshold. Its value there, and
    at other policies, depends on the coefficients.
    """

    constant: Float[Array, ""]
    bend: Float[Array, ""]
    objective: PolicyObjective = PolicyObjective(surrogate)

    def predict(self, policy: PyTree, batch: Batch) -> PyTree:
        return self.objective.predict(policy, batch)

    def loss(self, prediction: PyTree, batch: Batch) -> Float[Array, ""]:
        log_ratios = prediction.log_prob(batch.actions) - batch.log_probs
        excess = jnp.maximum(jnp.abs(log_ratios) - _THRESHOLD, 0.0)
        bent = self.constant + self.bend * valid_mean(excess**2, batch.valid)
        return self.objective.loss(prediction, batch) + bent

    def divergence(self, old: PyTree, new: PyTree, batch: Batch) -> Float[Array, ""]:
        return self.objective.divergence(old, new, batch)

    def clipped(self, epsilon: float) -> "BentObjective":
        return BentObjective(self.constant, self.bend, self.objective.clipped(epsilon))


class RuleChecks:
    """The checks of a rule, and the calls with fixed policies and data that they share. Every method may
    raise `Stop`."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.before = common.attributes(rule)
        self.policies, self.batches = _policies_and_batches()
        self.policy, self.batch = self.policies[0], self.batches[0]
        self.objective = BentObjective(jnp.zeros(()), jnp.zeros(()))

    def init(self, policy: PyTree) -> PyTree:
        """The rule's first state."""
        return attempt("init", self.rule.init, policy)

    def start(self) -> tuple[PyTree, PyTree, PyTree]:
        """The policy, batch and first state that steps are taken from."""
        return self.policy, self.batch, self.init(self.policy)

    def step(self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: PyTree) -> Stepped:
        """`step`, whose result is a triple."""
        result = attempt("step", self.rule.step, objective, policy, batch, state)
        remedy = "Return (policy, state, metrics); the state may be None."
        return common.elements("step", result, 3, "Algorithms take three things from it.", remedy)

    def compiled(self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: PyTree) -> Stepped:
        """`step` under jit."""
        return attempt("step", eqx.filter_jit(self.step), objective, policy, batch, state)

    @cached_property
    def first(self) -> Stepped:
        """One eager step from `start`."""
        return self.step(self.objective, *self.start())

    @cached_property
    def first_compiled(self) -> Stepped:
        """One step from `start` under jit."""
        return self.compiled(self.objective, *self.start())

    def loss(self, policy: PyTree) -> Array:
        """The objective at `policy`."""
        return self.objective.loss(self.objective.predict(policy, self.batch), self.batch)

    def check_options(self) -> Problems:
        yield from common.has_methods(self.rule, ("init", "step"), "surefoot.rules.AbstractRule")
        yield from common.is_immutable(self.rule)

    def check_states_its_capabilities(self) -> Problems:
        for name, (why, default) in _CAPABILITIES.items():
            remedy = _CAPABILITY.format(name, default)
            yield from common.has_attribute(self.rule, name, *common.BOOL, why, remedy)

    def check_state_is_arrays(self) -> Problems:
        yield from common.all_arrays(self.init(self.policy), "state")

    def check_step_keeps_the_form(self) -> Problems:
        policy, following, _ = self.first
        yield from common.same_form(self.policy, policy, "policy", _WHY_FORM)
        yield from common.same_form(self.init(self.policy), following, "state", _WHY_FORM)

    def check_step_reports_metrics(self) -> Problems:
        metrics = self.first[2]
        if not isinstance(metrics, Mapping) or "loss" not in metrics:
            told = list(metrics) if isinstance(metrics, Mapping) else common.describe(metrics)
            yield error(
                f"The metrics of `step`, {told}, have no 'loss'.",
                "It is logged at every iteration.",
                "Return a dict with the loss before the step under 'loss'.",
            )
            return
        for name, value in metrics.items():
            scalar = isinstance(value, jax.Array) and value.shape == ()
            if not (isinstance(name, str) and scalar and jnp.issubdtype(value.dtype, jnp.floating)):
                yield error(
                    f"The metric {name!r} is {common.describe(value)}, not a named floating-point scalar.",
                    "Metrics are averaged and logged.",
                    "Reduce it to a scalar, and convert counts and flags with .astype(loss.dtype).",
                )
        before = self.loss(self.policy)
        if not common.close(jnp.asarray(metrics["loss"]), before):
            yield error(
                f"The metric 'loss' is {metrics['loss']}; before the step the loss was {before}.",
                "Curves of different rules could not be compared.",
                "Report the loss of loss_and_gradient(objective, policy, batch) at the policy handed in.",
            )

    def check_step_is_pure(self) -> Problems:
        given = self.start()
        before = jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, given)
        first = self.step(self.objective, *given)
        if not common.same(before, given):
            yield error(
                "`step` changes what it is given.",
                "Others still use it; under jit the change is lost.",
                "Build new dicts and lists in place of changing those that come in.",
            )
        elif not common.same(first, self.first):
            yield error(
                "`step` gives different results for the same arguments.",
                "Runs could not be repeated.",
                "Keep what it needs to remember, random keys too, in the rule's state.",
            )
        elif not _same_step(self.policy, first, self.first_compiled):
            yield error(
                "`step` gives other results under jit than without.",
                "Training runs under jit.",
                "Let the result depend on the arguments and on options that never change.",
            )

    def check_needs_no_more_than_the_gradient(self) -> Problems:
        """A rule that says it needs no surrogate takes the same step on losses of one gradient."""
        if getattr(self.rule, "requires_surrogate", True) is not False:
            return
        for sign in (1.0, -1.0):
            bent = BentObjective(jnp.asarray(sign), jnp.asarray(sign * _BENT))
            other = self.compiled(bent, *self.start())
            if not _same_step(self.policy, self.first_compiled, other):
                yield error(
                    "`requires_surrogate` is False, but the step depends on more of the loss than its "
                    "gradient at the policy that drew the data: on its value, or on it at other policies.",
                    "Such a rule is given the pseudo-loss `reinforce`, whose value has no meaning.",
                    "Return True from requires_surrogate, or compute the step from the gradient.",
                )
                return

    def check_lowers_the_loss(self) -> Problems:
        policy, state = self.policy, self.init(self.policy)
        for _ in range(_STEPS):
            policy, state, _ = self.compiled(self.objective, policy, self.batch, state)
        before, after = float(self.loss(self.policy)), float(self.loss(policy))
        if not after < before:
            yield error(
                f"{_STEPS} steps on one small batch take the loss from {before:.4g} to {after:.4g}.",
                "A rule is there to lower it.",
                "Look at the sign of the step (losses are minimised) and at its size.",
            )

    def check_tasks_can_be_vmapped(self) -> Problems:
        def step(policy: PyTree, batch: PyTree) -> Stepped:
            return self.step(self.objective, policy, batch, self.init(policy))

        together = attempt(
            "step", eqx.filter_jit(eqx.filter_vmap(step)), *map(stack, (self.policies, self.batches))
        )
        for i, (policy, batch) in enumerate(zip(self.policies, self.batches, strict=True)):
            alone = self.compiled(self.objective, policy, batch, self.init(policy))
            mine = jax.tree.map(lambda x, i=i: x[i], eqx.filter(together, eqx.is_array))
            if not _same_step(policy, mine, alone):
                yield error(
                    f"Vmapped over tasks, the step of task {i} is not the one it takes alone.",
                    "As an inner rule it takes the steps of all tasks at once.",
                    "Write it for one policy and one batch; let nothing depend on an axis for tasks.",
                )
                return

    def check_improves_adapted_objectives(self) -> Problems:
        # Every task adapts on its batch and is evaluated on the same. Rules that divide a batch need several.
        inner = PolicyObjective(reinforce)
        objective = adapted(self.objective, GradientStep(lr=0.1), inner_objective=inner)
        tasks = stack([self.batches[i % _TASKS] for i in range(_META_TASKS)])
        batch = MetaBatch(support=(tasks,), query=tasks)
        policy, _, metrics = self.compiled(objective, self.policy, batch, self.init(self.policy))
        yield from common.same_form(self.policy, policy, "policy", _WHY_FORM)
        if not common.finite(common.arrays((policy, metrics))):
            yield error(
                "With an adapted objective, the new policy or its metrics are not finite.",
                "Then the rule cannot meta-learn.",
                "Use only the objective's predict, loss, divergence and average; guard divisions and roots.",
            )

    def check_can_be_differentiated(self) -> Problems:
        def loss_after(policy: PyTree, batch: Batch) -> Array:
            stepped = self.rule.step(self.objective, policy, batch, self.rule.init(policy))
            return self.loss(stepped[0])

        differentiated = eqx.filter_value_and_grad(loss_after)
        why = "It cannot be the inner rule of second-order meta-learning."
        try:
            eqx.filter_eval_shape(differentiated, self.policy, self.batch)
        except FAILURES as failed:
            yield warning(
                f"No gradient can be taken through `step`: {summary(failed)}.",
                why,
                "Use lax.scan in place of lax.while_loop, or the rule with --order first.",
            )
            return
        nothing = eqx.tree_at(lambda batch: batch.advantages, self.batch, 0 * self.batch.advantages)
        loss, gradient = eqx.filter_jit(differentiated)(self.policy, nothing)
        if common.finite(loss) and not common.finite(gradient):
            yield warning(
                "The gradient through `step` is not finite where the loss's own gradient is zero.",
                why,
                "Guard roots and divisions: jnp.sqrt(jnp.where(x > 0, x, 1.0)), or an ε inside the root.",
            )

    def check_says_that_its_loss_is_nan(self) -> Problems:
        spoilt = eqx.tree_at(lambda batch: batch.advantages, self.batch, self.batch.advantages * jnp.nan)
        policy, _, metrics = self.compiled(self.objective, self.policy, spoilt, self.init(self.policy))
        if common.finite(metrics["loss"]) and not common.finite(common.arrays(policy)):
            yield error(
                "`loss` of the metrics is finite where the loss is not, and the policy is not finite either.",
                "Training stops at a loss that is not finite, and keeps the policy before it.",
                "Report the loss as the objective gives it.",
            )

    def check_keeps_no_state(self) -> Problems:
        yield from common.keeps_no_state(self.before, self.rule, lambda: self.first)


@cache
def _policies_and_batches() -> tuple[Sequence[AbstractPolicy], Sequence[Batch]]:
    keys = jax.random.split(jax.random.key(_SEED), _TASKS)
    policies = [GaussianMLP(hidden=(4,)).build(key, _SIZE, Continuous(_SIZE)) for key in keys]
    return policies, [_batch(policy, key) for policy, key in zip(policies, keys, strict=True)]


@eqx.filter_jit
def _batch(policy: AbstractPolicy, key: Key) -> Batch:
    """Actions drawn by `policy`, the better the nearer to the observation; some steps are padding."""
    observation_key, action_key = jax.random.split(key)
    observations = jax.random.normal(observation_key, (_EPISODES, _TIME, _SIZE))
    distribution = policy(observations)
    actions = distribution.sample(action_key)
    valid = jnp.ones((_EPISODES, _TIME), bool).at[0, _TIME // 2 :].set(False)
    closeness = -jnp.sum((actions - observations) ** 2, axis=-1)
    advantages = (closeness - jnp.mean(closeness)) / jnp.std(closeness)
    return Batch(observations, actions, distribution.log_prob(actions), advantages, valid)


def _same_step(start: PyTree, one: Stepped, other: Stepped) -> bool:
    """Whether two steps from `start` agree, but for the rounding that iterative solvers amplify."""

    def flat(policy: PyTree) -> np.ndarray:
        return np.asarray(ravel_pytree(eqx.filter(policy, eqx.is_inexact_array))[0])

    origin, a, b = map(flat, (start, one[0], other[0]))
    return bool(np.linalg.norm(a - b) <= _ROUNDING * np.linalg.norm(a - origin) + 1e-6)
