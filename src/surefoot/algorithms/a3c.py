"""A3C: workers that sample and compute gradients, and a learner that applies each as it arrives."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from surefoot.algorithms.base import LearnerState, Setting, policy_objective
from surefoot.algorithms.fragments import Fragment, Learned, begin_anew, fragment_gradient, learn_fragment
from surefoot.algorithms.on_policy import AbstractOneTaskAlgorithm, OnPolicyState
from surefoot.algorithms.reporting import Progress, count_steps
from surefoot.envs import AbstractFamily
from surefoot.options import NonNegative, Options, UserError, at_least
from surefoot.policies import AbstractPolicy
from surefoot.rules import OptaxStep
from surefoot.rules.base import Metrics
from surefoot.samplers.base import empty_rollout, finals_of_streams, is_traced
from surefoot.samplers.host_rollouts import key_data
from surefoot.samplers.remote import AbstractRemoteSampler
from surefoot.samplers.workers import Workers
from surefoot.theory.objectives import ActorCriticObjective
from surefoot.types import Key


@dataclass(frozen=True)
class A3C(Options, AbstractOneTaskAlgorithm):
    """Asynchronous advantage actor-critic (Mnih et al., 2016, algorithm S3), with processes in
    place of threads.

    Each worker takes a few steps in its own environments with the parameters it was given, and sends back
    the gradient. The learner applies each gradient as it arrives to its current parameters, and sends these
    to the worker. In its asynchronous form it is not reproducible: the order of arrival is nondeterministic.
    """

    step: OptaxStep = OptaxStep("rmsprop", lr=7e-4, max_gradient_norm=0.5)
    """Optimiser step; its state is shared by all workers."""
    fragment: Annotated[int, at_least(1)] = 5
    """Number of steps of each environment for one gradient, t_max in the paper."""
    environments: Annotated[int, at_least(1)] = 8
    """Number of parallel environments of each worker; the paper has one, and does not normalise
    advantages."""
    updates: Annotated[int, at_least(1)] = 100
    """Number of updates in an iteration of the run."""
    synchronous: bool = False
    """Whether the learner waits for a gradient of every worker and applies their mean. Then results do not
    depend on the order of arrival, but on the number of workers."""
    entropy_bonus: Annotated[float, NonNegative] = 0.01
    """Weight of the policy's mean entropy, in nats, which is subtracted from the loss."""
    value_coefficient: Annotated[float, NonNegative] = 0.5
    """Weight of the value function's loss."""

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        if not isinstance(setting.sampler, AbstractRemoteSampler):
            raise UserError("A3C learns in workers; set --sampler processes and --streams 0.")
        if not setting.sampler.keeps_workers:
            raise UserError(
                "A3C's workers keep their environments, and a Ray cluster gives a call to any process that "
                "is free; set --sampler processes."
            )
        if not policy.predicts_values:
            raise UserError("A3C needs a policy that predicts values: --policy actor-critic.")
        if policy.is_recurrent:
            raise UserError(
                "A3C's workers keep no memory from one fragment to the next; use --policy actor-critic."
            )
        normalisation = setting.estimator.normalisation
        if normalisation.observations or normalisation.rewards:
            raise UserError(
                "A3C's workers see fragments of their own and share no statistics; set "
                "--normalisation.no-observations --normalisation.no-rewards."
            )
        if setting.estimator.estimation.normalise and self.fragment * self.environments == 1:
            raise UserError(
                "A fragment has one step, and a normalised advantage is measured from its fragment's mean, "
                "which is itself; set --estimation.no-normalise, or a longer --algorithm.fragment."
            )
        if setting.estimator.estimation.credit == "whole-return":
            raise UserError(
                "The return of a whole episode is not known in a fragment; set --estimation.credit gae."
            )
        env = setting.sampler.env
        unused, scales = setting.estimator.init(key, env)
        own = OnPolicyState(self.step.init(policy), env.sample_tasks(key, 1), None, Progress.start(0))
        return LearnerState(policy, scales, (unused,), own)

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        sampler, fragment = setting.sampler, self._fragment(setting, state)
        assert isinstance(sampler, AbstractRemoteSampler)
        if is_traced(state.policy):
            return _abstract_iteration(self, sampler.env, fragment, state)
        if not np.any(state.own.progress.steps):
            ends = [one.submit(begin_anew, about="The end of earlier episodes") for one in sampler.solo]
            for end in ends:
                end.result()
        learner = _Learner(self.step, state)
        learn = self._in_rounds if self.synchronous else self._as_they_arrive
        learn(sampler, fragment, learner, key)
        return learner.state(fragment), learner.metrics()

    def _fragment(self, setting: Setting, state: LearnerState) -> Fragment:
        policy: Any = state.policy
        objective = ActorCriticObjective(
            policy_objective("reinforce", self.entropy_bonus), self.value_coefficient, policy.auxiliary
        )
        return Fragment(
            objective, setting.estimator, state.scales, state.own.task, self.environments, self.fragment
        )

    def _as_they_arrive(
        self, sampler: AbstractRemoteSampler, fragment: Fragment, learner: "_Learner", key: Key
    ) -> None:
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

    def _in_rounds(
        self, sampler: AbstractRemoteSampler, fragment: Fragment, learner: "_Learner", key: Key
    ) -> None:
        for update in range(self.updates):
            keys = jax.random.split(jax.random.fold_in(key, update), len(sampler.solo))
            futures = [
                worker.submit(learn_fragment, fragment, learner.policy, key_data(k), about="A fragment")
                for worker, k in zip(sampler.solo, keys, strict=True)
            ]
            learner.take([future.result() for future in futures], staleness=0)


class _Learner:
    """The parameters in the course of one iteration, and what is to be said of it."""

    def __init__(self, step: OptaxStep, state: LearnerState) -> None:
        self._step, self._state = step, state
        self.policy, self._rule = state.policy, state.own.rule
        self.updates = 0
        """Gradients that have been applied."""
        self._fragments = 0
        self._seen: list[dict[str, float]] = []
        self._returns: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []

    def take(self, learned: Sequence[Learned], staleness: int) -> None:
        """Applies the mean of these gradients."""
        self.policy, self._rule, norm = _applied(
            self._step, self.policy, self._rule, [one.gradient for one in learned]
        )
        self.updates += 1
        self._fragments += len(learned)
        self._seen.append(
            {
                "loss": float(np.mean([one.loss for one in learned])),
                "entropy": float(np.mean([one.entropy for one in learned])),
                "gradient_norm": float(norm),
                "staleness": staleness,
            }
        )
        self._returns.extend(one.returns for one in learned)
        self._lengths.extend(one.lengths for one in learned)

    def state(self, fragment: Fragment) -> LearnerState:
        """The state of the next iteration."""
        old = self._state.own.progress
        returns, lengths = np.concatenate(self._returns), np.concatenate(self._lengths)
        progress = replace(
            old,
            last_return=_mean_or(old.last_return, returns),
            last_length=_mean_or(old.last_length, lengths),
            steps=count_steps(old.steps, self._fragments * fragment.rows * fragment.steps),
        )
        own = replace(self._state.own, rule=self._rule, progress=progress)
        self._state = replace(self._state, policy=self.policy, own=own)
        return self._state

    def metrics(self) -> Metrics:
        """Metrics of the updates so far. Staleness is how many other updates came between the parameters that
        a gradient was taken at and those that it was applied to."""
        seen = {name: np.mean([one[name] for one in self._seen]) for name in self._seen[0]}
        seen["staleness_max"] = np.max([one["staleness"] for one in self._seen])
        numbers = {name: jnp.asarray(value, float) for name, value in seen.items()}
        return {**self._state.own.progress.describe(), **numbers}


def _mean_or(before: Array, values: np.ndarray) -> Array:
    """The mean of `values`, or the previous one if there are none."""
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
    policy: Any = state.policy
    finals = finals_of_streams(env, fragment.steps)
    rollout = empty_rollout(env, (fragment.rows, fragment.steps), finals)
    gradient, loss, entropy = fragment_gradient(fragment, policy, rollout)
    policy, rule, norm = _applied(algorithm.step, state.policy, state.own.rule, [gradient])
    metrics = {
        "loss": loss,
        "entropy": entropy,
        "gradient_norm": norm,
        "staleness": loss,
        "staleness_max": loss,
    }
    following = replace(state, policy=policy, own=replace(state.own, rule=rule))
    return following, {**state.own.progress.describe(), **metrics}
