"""Meta-learning: MAML and its kin, from any inner and any outer rule."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax

from surefoot.algorithms.adaptation import Adaptation, adapt_to_tasks
from surefoot.algorithms.base import (
    AbstractAlgorithm,
    LearnerState,
    LossName,
    Setting,
    check_loss,
    own_keys,
    policy_objective,
)
from surefoot.algorithms.estimation import Estimation
from surefoot.algorithms.normalisation import Normalisation
from surefoot.algorithms.reporting import describe_adaptation
from surefoot.envs import AbstractFamily
from surefoot.options import check
from surefoot.policies.base import AbstractPolicy
from surefoot.rules import AbstractRule, GradientStep, TrustRegion
from surefoot.rules.base import Metrics
from surefoot.theory.divergences import mean_entropy
from surefoot.theory.meta import adapted
from surefoot.types import Key, MetaBatch, Task


@dataclass(frozen=True)
class MAML(AbstractAlgorithm):
    """Model-agnostic meta-learning (Finn et al., 2017, algorithm 3): improve the policy that tasks adapt
    from, on the loss after adaptation."""

    inner: AbstractRule = GradientStep()
    """How the policy adapts to a task."""
    outer: AbstractRule = TrustRegion()
    """How the policy is meta-trained."""
    inner_steps: int = 1
    """Steps of adaptation, each on fresh rollouts."""
    tasks: int = 20
    """Tasks drawn at each iteration."""
    order: Literal["second", "first"] = "second"
    """Whether the meta-gradient goes through the inner steps, or takes their derivative to be the
    identity."""
    inner_loss: LossName = "reinforce"
    """The loss of the inner steps: log-likelihood or likelihood ratio. First-order terms agree, second-order
    terms do not."""
    chunk: int = 1
    """Tasks the outer rule works on at a time: memory grows with it, results do not depend on it."""

    def __post_init__(self) -> None:
        check(self.inner_steps >= 1, "inner_steps", self.inner_steps, "1 or more")
        check(self.tasks >= 1, "tasks", self.tasks, "1 or more")
        check(self.chunk >= 1, "chunk", self.chunk, "1 or more")

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        check_loss(self.inner, self.inner_loss, "--inner-loss")
        env = setting.sampler.env
        baseline_key, rule_key = jax.random.split(key)
        unfitted = setting.estimation.baseline.init(baseline_key, env.observation_size, env.horizon)
        baselines = (unfitted,) * (self.inner_steps + 1)
        scales = setting.normalisation.init(env.observation_size)
        rule = own_keys(self.outer.init(policy), rule_key)
        return LearnerState(policy, rule, baselines, None, scales)

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        task_key, play_key = jax.random.split(key)
        tasks = setting.sampler.env.sample_tasks(task_key, self.tasks)
        lived = adapt_to_tasks(
            setting,
            policy_objective(self.inner_loss),
            self.inner,
            state.policy,
            tasks,
            play_key,
            steps=self.inner_steps,
            baselines=state.baselines,
            scales=state.scales,
        )
        limit_ends = setting.sampler.env.time_limit_ends_return
        return _learn(self, setting.estimation, setting.normalisation, limit_ends, state, lived)

    def evaluation_tasks(self, env: AbstractFamily, state: LearnerState, key: Key, n: int) -> Task:
        del state
        return env.sample_tasks(key, n)


@eqx.filter_jit
def _learn(
    meta: MAML,
    estimation: Estimation,
    normalisation: Normalisation,
    limit_ends: bool,
    state: LearnerState,
    lived: Adaptation,
) -> tuple[LearnerState, Metrics]:
    """What follows sampling: compiled by itself where sampling cannot be."""
    inner_objective = policy_objective(meta.inner_loss)
    objective = adapted(
        policy_objective("surrogate"),
        meta.inner,
        inner_objective=inner_objective,
        first_order=meta.order == "first",
        chunk=meta.chunk,
    )
    batch = MetaBatch(support=lived.batches[:-1], query=lived.batches[-1])
    policy, rule, metrics = meta.outer.step(objective, state.policy, batch, state.rule)
    seen = [normalisation.rollout(rollout, state.scales) for rollout in lived.rollouts]
    baselines = tuple(
        estimation.refit(rollout, previous, limit_ends)
        for rollout, previous in zip(seen, state.baselines, strict=True)
    )
    scales = state.scales
    for rollout in lived.rollouts:
        scales = normalisation.update(scales, rollout, estimation.discount)
    before = inner_objective.predict(state.policy, lived.batches[0])
    return LearnerState(policy, rule, baselines, None, scales), {
        **describe_adaptation(lived.rollouts),
        "entropy": mean_entropy(before, lived.batches[0].valid),
        **metrics,
    }
