"""Adapting with samplers that play while the caller goes on."""

import threading
from concurrent.futures import Future
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

from surefoot.algorithms import (
    Adaptation,
    Estimation,
    Estimator,
    GradientAdapter,
    LearnerState,
    Normalisation,
    adapt_to_tasks,
    policy_objective,
)
from surefoot.baselines import Zero
from surefoot.envs import Navigation2D
from surefoot.policies import GaussianMLP
from surefoot.rules import GradientStep
from surefoot.samplers import AbstractSampler, ScanSampler
from surefoot.types import Rollout

KEY = jax.random.key(3)
ENV = Navigation2D(horizon=4)
POLICY = GaussianMLP(hidden=(3,)).build(KEY, 2, ENV.action_space)
TASKS = ENV.sample_tasks(KEY, 3)


class Scripted(AbstractSampler):
    """Plays at once, and hands over in an order of its own: `ready(done)` tells which of the rollouts that
    were asked for, numbered as they were submitted, may be handed over now."""

    traceable = False
    asynchronous = True
    env, episodes = ENV, 4

    def __init__(self, ready: Any) -> None:
        self._ready, self._scan = ready, ScanSampler(ENV, 4)
        self._changed = threading.Condition()
        self.asked: list[int] = []
        """The task of each rollout that was asked for."""

    def start(self, policy: Any, task: Any, key: Any) -> None:
        """Every batch begins anew."""

    def collect(self, policy: Any, task: Any, where: None, key: Any) -> tuple[None, Rollout]:
        return None, self._scan.submit(policy, task, key).result()

    def sample(self, policies: Any, tasks: Any, key: Any, first: Any = 0) -> Rollout:
        raise AssertionError("there is a barrier")

    def submit(self, policy: Any, task: Any, key: Any) -> Future[Rollout]:
        future: Future[Rollout] = Future()
        rollout = self._scan.submit(policy, task, key).result()
        with self._changed:
            number = len(self.asked)
            self.asked.append(int(np.argmin(np.abs(np.asarray(TASKS) - np.asarray(task)).sum(axis=1))))
            self._changed.notify_all()
        threading.Thread(target=self._hand_over, args=(number, future, rollout), daemon=True).start()
        return future

    def _hand_over(self, number: int, future: Future[Rollout], rollout: Rollout) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self._ready(number, self.asked), timeout=20):
                future.set_result(rollout)
            else:
                future.set_exception(TimeoutError(f"rollout {number} after {self.asked}"))


def adapted(sampler: AbstractSampler) -> Adaptation:
    estimator = Estimator.of(ENV, Estimation(baseline=Zero(), fit="same-batch"))
    state = LearnerState(POLICY, Normalisation().init(2), (None,), None)
    adapter = GradientAdapter.of(estimator, state, GradientStep(lr=0.5), policy_objective("reinforce"), 2)
    return adapt_to_tasks(sampler, adapter, POLICY, TASKS, KEY, 2)


@pytest.fixture(scope="module")
def expected() -> Adaptation:
    """All tasks in step."""
    return eqx.filter_jit(adapted)(ScanSampler(ENV, 4))


def same(a: Adaptation, b: Adaptation) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_no_task_waits_for_another(expected: Adaptation):
    """The first rollout of the last task is handed over when all is done for the others."""
    sampler = Scripted(lambda number, asked: number != 2 or asked.count(0) + asked.count(1) == 6)
    same(adapted(sampler), expected)
    assert sampler.asked[:3] == [0, 1, 2]
    assert sampler.asked[-2:] == [2, 2]


def test_results_do_not_depend_on_the_order(expected: Adaptation):
    sampler = Scripted(lambda number, asked: asked[number] == 2 or asked.count(2) == 3)
    same(adapted(sampler), expected)
    assert sampler.asked[:3] == [0, 1, 2]
    assert sampler.asked[3] == 2


def test_the_first_failure_ends_it():
    sampler = Scripted(lambda number, asked: True)
    whole = sampler.submit

    def submit(policy: Any, task: Any, key: Any) -> Future[Rollout]:
        if len(sampler.asked) < 3:
            return whole(policy, task, key)
        failed: Future[Rollout] = Future()
        failed.set_exception(RuntimeError("the wheel came off"))
        return failed

    sampler.submit = submit  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the wheel came off"):
        adapted(sampler)
