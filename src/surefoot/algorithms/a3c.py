"""A3C: workers that play and differentiate, and a learner that takes each gradient as it comes."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from surefoot.algorithms.base import LearnerState, Setting, policy_objective
from surefoot.algorithms.fragments import Fragment, Learned, fragment_gradient, learn_fragment
from surefoot.algorithms.on_policy import AbstractOneTaskAlgorithm
from surefoot.algorithms.reporting import Progress
from surefoot.envs import AbstractFamily
from surefoot.options import UserError, check
from surefoot.policies import AbstractPolicy
from surefoot.rules import OptaxStep
from surefoot.rules.base import Metrics
from surefoot.samplers.base import empty_rollout, is_traced
from surefoot.samplers.host_rollouts import key_data
from surefoot.samplers.remote import AbstractRemoteSampler
from surefoot.samplers.workers import Workers
from surefoot.theory.objectives import ActorCriticObjective
from surefoot.types import Key


@dataclass(frozen=True)
class A3C(AbstractOneTaskAlgorithm):
    """Asynchronous advantage actor-critic (Mnih et al., 2016, algorithm S3), with processes for threads.

    Each worker goes on with its own environments for a fragment of a few steps, by the parameters it was
    given, and sends back the gradient; the learner applies each gradient as it comes, to the parameters as
    they are by then, and gives the worker those. It is not reproducible in its asynchronous form: which
    gradient comes first is for the machine to say.
    """

    step: OptaxStep = OptaxStep("rmsprop", lr=7e-4, max_gradient_norm=0.5)
    """The optimiser, which all workers share."""
    fragment: int = 5
    """Steps of each environment for each gradient, t_max in the paper."""
    environments: int = 8
    """Environments of each worker, side by side; the paper has one."""
    updates: int = 100
    """Gradients for each iteration of the run."""
    synchronous: bool = False
    """Wait for a gradient of every worker and apply their mean: the twin for comparison. Its result does not
    depend on which worker is the fastest."""
    entropy_bonus: float = 0.01
    """The weight of the policy's mean entropy, in nats, beside the loss."""
    value_coefficient: float = 0.5
    """The weight of the value function's loss."""

    def __post_init__(self) -> None:
        check(self.fragment >= 1, "fragment", self.fragment, "1 or more")
        check(self.environments >= 1, "environments", self.environments, "1 or more")
        check(self.updates >= 1, "updates", self.updates, "1 or more")
        check(self.entropy_bonus >= 0, "entropy_bonus", self.entropy_bonus, "0 or more")
        check(self.value_coefficient >= 0, "value_coefficient", self.value_coefficient, "0 or more")

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        if not isinstance(setting.sampler, AbstractRemoteSampler):
            raise UserError("A3C learns in workers; set --sampler processes and --streams 0.")
        if not policy.predicts_values:
            raise UserError("A3C needs a policy that predicts values: --policy actor-critic.")
        if setting.normalisation.observations or setting.normalisation.rewards:
            raise UserError(
                "A3C's workers see fragments of their own and share no statistics; set "
                "--normalisation.no-observations --normalisation.no-rewards."
            )
        if setting.estimation.credit == "whole-return":
            raise UserError(
                "The return of a whole episode is not known in a fragment; set --estimation.credit gae."
            )
        env = setting.sampler.env
        unused = setting.estimation.baseline.init(key, env.observation_size, env.horizon)
        return LearnerState(
            policy=policy,
            rule=self.step.init(policy),
            baselines=(unused,),  # the policy judges; what evaluates it may yet ask
            task=env.sample_tasks(key, 1),
            scales=setting.normalisation.init(env.observation_size),
            progress=Progress.start(0),
        )

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        sampler, fragment = setting.sampler, self._fragment(setting, state)
        assert isinstance(sampler, AbstractRemoteSampler)
        if is_traced(state.policy):
            return _abstract_iteration(self, sampler.env, fragment, state)
        if self.synchronous:
            return self._in_rounds(sampler, fragment, state, key)
        return self._as_they_come(sampler, fragment, state, key)

    def _fragment(self, setting: Setting, state: LearnerState) -> Fragment:
        policy: Any = state.policy
        objective = ActorCriticObjective(
            policy_objective("reinforce", self.entropy_bonus), self.value_coefficient, policy.auxiliary
        )
        limit_ends = setting.sampler.env.time_limit_ends_return
        return Fragment(
            objective, setting.estimation, limit_ends, state.task, self.environments, self.fragment
        )

    def _as_they_come(
        self, sampler: AbstractRemoteSampler, fragment: Fragment, state: LearnerState, key: Key
    ) -> tuple[LearnerState, Metrics]:
        learner = _Learner(self.step, state)
        pending: dict[Future[Learned], tuple[Workers, int]] = {}
        submitted = 0

        def submit(worker: Workers) -> None:
            nonlocal submitted
            if submitted < self.updates:
                words = key_data(jax.random.fold_in(key, submitted))
                future = worker.submit(learn_fragment, fragment, learner.policy, words, about="A fragment")
                pending[future] = worker, learner.updates
                submitted += 1

        try:
            for worker in sampler.solo:
                submit(worker)
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    worker, updates = pending.pop(future)
                    learner.take([future.result()], staleness=learner.updates - updates)
                    submit(worker)
        finally:
            for future in pending:
                future.cancel()
        return learner.state(fragment), learner.metrics()

    def _in_rounds(
        self, sampler: AbstractRemoteSampler, fragment: Fragment, state: LearnerState, key: Key
    ) -> tuple[LearnerState, Metrics]:
        learner = _Learner(self.step, state)
        for update in range(self.updates):
            keys = jax.random.split(jax.random.fold_in(key, update), len(sampler.solo))
            futures = [
                worker.submit(learn_fragment, fragment, learner.policy, key_data(k), about="A fragment")
                for worker, k in zip(sampler.solo, keys, strict=True)
            ]
            learner.take([future.result() for future in futures], staleness=0)
        return learner.state(fragment), learner.metrics()


class _Learner:
    """The parameters in the course of one iteration, and what is to be said of it."""

    def __init__(self, step: OptaxStep, state: LearnerState) -> None:
        self._step, self._state = step, state
        self.policy, self._rule = state.policy, state.rule
        self.updates = 0
        """Gradients that have been applied."""
        self._fragments = 0
        self._losses: list[float] = []
        self._entropies: list[float] = []
        self._norms: list[float] = []
        self._staleness: list[int] = []
        self._returns: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []

    def take(self, learned: Sequence[Learned], staleness: int) -> None:
        """Applies the mean of these gradients."""
        self.policy, self._rule, norm = _applied(
            self._step, self.policy, self._rule, [one.gradient for one in learned]
        )
        self.updates += 1
        self._fragments += len(learned)
        self._losses.append(float(np.mean([one.loss for one in learned])))
        self._entropies.append(float(np.mean([one.entropy for one in learned])))
        self._norms.append(float(norm))
        self._staleness.append(staleness)
        self._returns.extend(one.returns for one in learned)
        self._lengths.extend(one.lengths for one in learned)

    def state(self, fragment: Fragment) -> LearnerState:
        """That of the next iteration."""
        old = self._state.progress
        assert old is not None
        returns, lengths = np.concatenate(self._returns), np.concatenate(self._lengths)
        progress = replace(
            old,
            last_return=_mean_or(old.last_return, returns),
            last_length=_mean_or(old.last_length, lengths),
            steps=old.steps_after(self._fragments * fragment.rows * fragment.steps),
        )
        self._state = replace(self._state, policy=self.policy, rule=self._rule, progress=progress)
        return self._state

    def metrics(self) -> Metrics:
        """Of the updates so far. Staleness is how many other updates came between the parameters that a
        gradient was taken at and those that it was applied to."""
        assert self._state.progress is not None
        seen = {
            "loss": np.mean(self._losses),
            "entropy": np.mean(self._entropies),
            "gradient_norm": np.mean(self._norms),
            "staleness": np.mean(self._staleness),
            "staleness_max": np.max(self._staleness),
        }
        numbers = {name: jnp.asarray(value, float) for name, value in seen.items()}
        return {**self._state.progress.describe(), **numbers}


def _mean_or(before: Array, values: np.ndarray) -> Array:
    """What it was before, if there are no values."""
    return jnp.asarray(values.mean(), before.dtype) if len(values) else before


@eqx.filter_jit
def _applied(
    step: OptaxStep, policy: AbstractPolicy, rule: PyTree, gradients: list[PyTree]
) -> tuple[AbstractPolicy, PyTree, Array]:
    gradient = jax.tree.map(lambda *g: sum(g) / len(g), *gradients)
    policy, rule = step.apply(policy, gradient, rule)
    return policy, rule, optax.tree.norm(gradient)


def _abstract_iteration(
    algorithm: A3C, env: AbstractFamily, fragment: Fragment, state: LearnerState
) -> tuple[LearnerState, Metrics]:
    """The form of an iteration, with the gradient of a fragment in which nothing happened: misfits are found
    here."""
    assert state.progress is not None
    policy: Any = state.policy
    rollout = empty_rollout(env, (fragment.rows, fragment.steps))
    gradient, loss, entropy = fragment_gradient(
        fragment.objective, fragment.estimation, fragment.limit_ends, policy, rollout
    )
    policy, rule, norm = _applied(algorithm.step, state.policy, state.rule, [gradient])
    metrics = {
        "loss": loss,
        "entropy": entropy,
        "gradient_norm": norm,
        "staleness": loss,
        "staleness_max": loss,
    }
    following = replace(state, policy=policy, rule=rule)
    return following, {**state.progress.describe(), **metrics}
