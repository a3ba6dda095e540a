"""Meta-learning by gradient: what MAML and the methods that differ from it by terms of the loss share."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import equinox as eqx
import jax

from surefoot.algorithms.adaptation import Adaptation, adapt_to_tasks
from surefoot.algorithms.base import (
    AbstractAlgorithm,
    LearnerState,
    Setting,
    check_loss,
    compile_ahead,
    jit_from_host,
    own_keys,
    policy_objective,
)
from surefoot.algorithms.estimator import Estimator
from surefoot.algorithms.gradient_adapter import GradientAdapter, inner_part, outer_part
from surefoot.algorithms.reporting import (
    StepCount,
    count_adaptation,
    describe_adaptation,
    no_steps,
    total_steps,
)
from surefoot.options import Fraction, Options, UserError, at_least
from surefoot.policies.base import AbstractPolicy
from surefoot.rules import AbstractRule, GradientStep, TrustRegion
from surefoot.rules.base import Metrics
from surefoot.theory.dice import DiceObjective
from surefoot.theory.divergences import mean_entropy
from surefoot.theory.meta import AbstractMetaObjective, AbstractTerm, adapted
from surefoot.theory.objectives import AbstractObjective, OnPart
from surefoot.types import Key, MetaBatch, ObservationSpace

InnerLossName = Literal["reinforce", "surrogate", "dice"]


class MetaState(eqx.Module):
    """The state of a gradient-based meta-learner."""

    rule: Any
    """The outer rule's state."""
    terms: dict[str, AbstractTerm]
    """The terms of the meta-loss, by name, as they are by now."""
    steps: StepCount
    """Steps of the environment so far, of all tasks and phases."""


@dataclass(frozen=True)
class AbstractGradientMeta(Options, AbstractAlgorithm):
    """Improve the policy that tasks adapt from, on the loss after adaptation (Finn et al., 2017, algorithm 3)
    plus the terms of the method."""

    inner: AbstractRule = GradientStep()
    """Rule by which the policy adapts to a task."""
    outer: AbstractRule = TrustRegion()
    """Rule by which the policy is meta-trained."""
    inner_steps: Annotated[int, at_least(1)] = 1
    """Number of steps of adaptation, each on fresh rollouts."""
    tasks: Annotated[int, at_least(1)] = 20
    """Number of tasks drawn at each iteration, the meta-batch size."""
    order: Literal["second", "first"] = "second"
    """Order of the meta-gradient: `second` differentiates through the inner steps, `first` takes their
    derivative to be the identity."""
    inner_loss: InnerLossName = "reinforce"
    """Loss of the inner steps: log-likelihood (`reinforce`), likelihood ratio (`surrogate`), or likelihood
    ratios of trajectories (`dice`). First-order terms agree, second-order terms do not; those of `dice` alone
    are unbiased."""
    dice_lambda: Annotated[float, Fraction] = 1.0
    """λ of loaded DiCE: the weight of a past action falls by this factor at each step. 1 is DiCE, without
    bias; smaller values have less variance; 0 is the surrogate."""
    control_variate: bool = True
    """Whether `dice` subtracts the baseline from the products of different steps too, as TMAML does. That
    adds no bias; without it they have the whole reward-to-go."""
    chunk: Annotated[int, at_least(1)] = 1
    """Number of tasks that the outer rule computes at a time. Memory grows with it; results do not depend on
    it."""
    repeats_inner_steps: ClassVar[bool] = True
    """Whether the objective takes the inner steps again at each policy that the outer rule tries."""
    adapts = True

    def terms(self) -> dict[str, AbstractTerm]:
        """The terms that the method adds to the loss, by name, as they begin; by default none."""
        return {}

    def meta_policy(self, policy: AbstractPolicy, space: ObservationSpace) -> AbstractPolicy:
        """The policy that is meta-trained, made of the one that the options built: one with other roles, or
        with further parameters. `space` is the environment's."""
        del space
        return policy

    def objective(self, terms: dict[str, AbstractTerm]) -> AbstractMetaObjective:
        """The objective of the outer rule, with the terms as they are by now."""
        return adapted(
            policy_objective("surrogate"),
            self.inner,
            inner_objective=self.inner_objective,
            first_order=self.order == "first",
            chunk=self.chunk,
            terms=terms,
            split=inner_part,
        )

    @property
    def inner_objective(self) -> AbstractObjective:
        """The objective of the inner rule."""
        if self.inner_loss == "dice":
            return DiceObjective(self.dice_lambda, self.control_variate)
        return policy_objective(self.inner_loss)

    @property
    def adaptation_rule(self) -> AbstractRule:
        return self.inner

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        check_inner_loss(self)
        policy = self.meta_policy(policy, setting.sampler.env.observation_space)
        baseline_key, rule_key = jax.random.split(key)
        baseline, scales = setting.estimator.init(baseline_key, setting.sampler.env)
        rule = own_keys(self.outer.init(outer_part(policy)[0]), rule_key)
        baselines = (baseline,) * (self.inner_steps + 1)
        return LearnerState(policy, scales, baselines, MetaState(rule, self.terms(), no_steps()))

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        task_key, rollout_key = jax.random.split(key)
        tasks = setting.sampler.env.sample_tasks(task_key, self.tasks)
        adapter = self.adapter(setting.estimator, state)
        adaptation = adapt_to_tasks(
            setting.sampler,
            adapter,
            state.policy,
            tasks,
            rollout_key,
            self.inner_steps,
            while_starting=partial(compile_ahead, _learn, self, setting.estimator, state),
        )
        return _learn(self, setting.estimator, state, adaptation)

    def adapter(
        self, estimator: Estimator, state: LearnerState, rule: AbstractRule | None = None
    ) -> GradientAdapter:
        objective = self.inner_objective
        return GradientAdapter.of(estimator, state, self.inner, objective, self.inner_steps, rule)

    def learned(self, state: LearnerState) -> Any:
        return state


def check_inner_loss(algorithm: AbstractGradientMeta) -> None:
    """Raises `UserError` if the rules cannot use the inner loss, or its options have no effect."""
    if algorithm.inner_loss == "dice":
        if algorithm.order == "first" or not algorithm.repeats_inner_steps:
            raise UserError(
                "The inner loss dice differs from surrogate in its second derivative alone, which a "
                "meta-gradient of first order does not contain; use --inner-loss surrogate, or a method with "
                "--order second."
            )
        return
    if algorithm.dice_lambda != 1.0 or not algorithm.control_variate:
        raise UserError(
            f"dice-lambda and control-variate are options of the inner loss dice, and the inner loss is "
            f"{algorithm.inner_loss}, which they do not change; use --inner-loss dice, or leave them out."
        )
    if algorithm.inner_loss == "surrogate":
        return
    check_loss(algorithm.inner, algorithm.inner_loss, "--inner-loss")
    if algorithm.repeats_inner_steps and algorithm.outer.takes_several_steps:
        raise UserError(
            f"{type(algorithm.outer).__name__} takes several steps on one meta-batch, and from the second on "
            "the log-likelihood inner loss is wrong, for its data were drawn by another policy; use "
            "--inner-loss surrogate."
        )


@jit_from_host
def _learn(
    algorithm: AbstractGradientMeta, estimator: Estimator, state: LearnerState, adaptation: Adaptation
) -> tuple[LearnerState, Metrics]:
    """Everything of an iteration that follows sampling."""
    terms = {name: term.after(state.own.terms[name]) for name, term in algorithm.terms().items()}
    objective = algorithm.objective(terms)
    prepared = [estimator.prepare(rollout, state.scales) for rollout in adaptation.rollouts]
    batch = MetaBatch(support=adaptation.batches[:-1], query=adaptation.batches[-1])
    returns = jax.vmap(partial(estimator.returns, previous=state.baselines[-1]))(prepared[-1])
    batch = replace(batch, prepared=objective.prepare(state.policy, batch, returns))
    part, rest = outer_part(state.policy)
    part, rule, metrics = algorithm.outer.step(OnPart(objective, rest), part, batch, state.own.rule)
    policy = eqx.combine(part, rest)
    terms, seen = objective.update(policy, batch)
    baselines = tuple(map(estimator.refit, prepared, state.baselines))
    scales = state.scales
    for rollout in adaptation.rollouts:
        scales = estimator.update(scales, rollout)
    before = algorithm.inner_objective.predict(state.policy, adaptation.batches[0])
    steps = count_adaptation(state.own.steps, adaptation.rollouts)
    return LearnerState(policy, scales, baselines, MetaState(rule, terms, steps)), {
        **describe_adaptation(adaptation.rollouts),
        "steps": total_steps(steps),
        "entropy": mean_entropy(before, adaptation.batches[0].valid),
        **metrics,
        **seen,
    }
