from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.algorithms import (
    AbstractAlgorithm,
    Estimation,
    Estimator,
    GradientAdapter,
    LearnerState,
    Setting,
    adapt_to_tasks,
    policy_objective,
)
from surefoot.envs import AbstractFamily
from surefoot.experiment import Config, Evaluation, Learner, evaluate, evaluation, load, preset
from surefoot.experiment.evaluation import adapt, confidence_interval, evaluation_keys
from surefoot.experiment.run import Run
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule, GradientStep, TrustRegion
from surefoot.theory.objectives import reinforce, surrogate
from surefoot.types import Key, Task


def returns(run: Run, **changes) -> np.ndarray:
    options = replace(run.config.evaluation, **{k: v for k, v in changes.items() if k != "inner"})
    return evaluate(run.config, run.state.learner, run.iteration, options, changes.get("inner")).returns


def test_the_summary_has_the_promised_form(trained: Run) -> None:
    result = evaluate(trained.config, trained.state.learner, trained.iteration, Evaluation(5, 4, 2, seed=9))
    summary = result.summary()
    assert {k: v for k, v in summary.items() if k != "returns"} == {
        "preset": "bandit/maml-trpo",
        "iteration": 6,
        "seed": 9,
        "tasks": 5,
        "episodes": 4,
        "actions": "sampled",
    }
    assert [row["step"] for row in summary["returns"]] == [0, 1, 2]
    for row, values in zip(summary["returns"], result.returns, strict=True):
        low, high = row["ci95"]
        assert row["mean"] == pytest.approx(values.mean())
        assert row["tasks"] == values.tolist()
        assert low < row["mean"] < high


def test_confidence_interval_by_hand() -> None:
    # Mean 2, standard deviation 1, t of 2 degrees of freedom 4.3027.
    half = 4.302653 / np.sqrt(3)
    assert confidence_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx([2 - half, 2 + half])
    assert confidence_interval(np.array([1.0])) is None


def test_returns_are_undiscounted_sums(trained: Run) -> None:
    result = evaluate(trained.config, trained.state.learner, 6, Evaluation(3, 4, 1))
    rewards = np.asarray(result.rollouts[1].rewards)
    np.testing.assert_allclose(result.returns[1], rewards.sum(axis=-1).mean(axis=-1))
    assert result.episode_returns.shape == (2, 3, 4)


def test_one_episode_is_enough_where_nothing_is_adapted(trained: Run) -> None:
    """A baseline is cross-fitted for steps of adaptation alone."""
    config, learner = trained.config, trained.state.learner
    config = replace(config, estimation=Estimation())
    assert evaluate(config, learner, 6, Evaluation(3, 1, 0)).returns.shape == (1, 3)
    with pytest.raises(UserError, match=r"2 episodes or more of each task\. Take more episodes"):
        evaluate(config, learner, 6, Evaluation(3, 1, 1))


def test_the_seed_alone_decides(trained: Run) -> None:
    np.testing.assert_array_equal(returns(trained, seed=4), returns(trained, seed=4))
    assert np.any(returns(trained, seed=4) != returns(trained, seed=5))


def test_adaptation_starts_anew_for_every_task(trained: Run) -> None:
    """A task's results do not depend on what others there are before and after it."""
    config, learner, key = trained.config, trained.state.learner, jax.random.key(0)
    one = evaluate(config, learner, 6, Evaluation(1, 4, 2))
    assert one.returns.shape == (3, 1)
    tasks = jax.tree.map(lambda x: jnp.concatenate([x, 1 - x]), one.tasks)
    adapter, among = adapt(config, learner, tasks, key, steps=2, episodes=4)
    with closing(config.episode_setting(4)) as setting:
        for i in (0, 1):
            its = jax.tree.map(lambda x, i=i: x[i : i + 1], tasks)
            alone = adapt_to_tasks(setting.sampler, adapter, learner.policy, its, key, 2, first=i)
            for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(among), strict=True):
                np.testing.assert_allclose(a[0], b[i], rtol=1e-3, atol=1e-4)


def test_rates_can_be_scheduled_by_step(trained: Run) -> None:
    """A rate of zero from the second step on leaves the policy as it was after the first."""
    key, task = jax.random.key(3), jnp.linspace(0.0, 1.0, 10)
    once = trained.adapt(task, key, steps=1, inner=GradientStep(2.0))
    twice = trained.adapt(task, key, steps=2, inner=GradientStep((2.0, 0.0)))
    moved = trained.adapt(task, key, steps=2, inner=GradientStep((2.0, 1.0)))
    assert eqx.tree_equal(once, twice)
    assert not eqx.tree_equal(once, moved)
    assert not eqx.tree_equal(once, trained.policy)


def test_load_gives_the_policy_that_was_trained(trained: Run, config: Config) -> None:
    found = load(trained.folder.path)
    assert found.config == config
    assert found.iteration == 6
    assert eqx.tree_equal(found.policy, trained.policy)
    earlier = load(trained.folder.checkpoint(2))
    assert earlier.iteration == 2
    assert not eqx.tree_equal(earlier.policy, trained.policy)
    assert found.policy(jnp.ones(1)).mode().shape == ()


def test_a_rule_that_needs_a_surrogate_is_given_it(config: Config) -> None:
    """The inner steps of training are taken on the pseudo-loss."""

    def loss(config: Config, rule: AbstractRule | None) -> object:
        learner = Learner(config)
        adapter = config.algorithm.adapter(config.estimator, learner.state.learner, rule)
        return adapter.objective.step_loss

    assert loss(config, None) is reinforce
    assert loss(config, TrustRegion()) is surrogate
    assert loss(preset("navigation-2d/trpo"), GradientStep()) is reinforce


@dataclass(frozen=True)
class Own(AbstractAlgorithm):
    """An algorithm of a user's own, with an inner rule and not derived from the library's."""

    inner: AbstractRule = GradientStep(lr=3.0)

    adapts = True
    adaptation_rule = GradientStep(lr=3.0)

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        baseline, scales = setting.estimator.init(key, setting.sampler.env)
        return LearnerState(policy, scales, (baseline,), None)

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, dict]:
        return state, {"loss": jnp.zeros(()), "return": jnp.zeros(())}

    def adapter(self, estimator: Estimator, state: LearnerState, rule: Any = None) -> GradientAdapter:
        return GradientAdapter.of(estimator, state, rule or self.inner, policy_objective("reinforce"), 2)

    def evaluation_tasks(self, env: AbstractFamily, state: LearnerState, key: Key, n: int) -> Task:
        return env.sample_tasks(key, n)

    def learned(self, state: LearnerState) -> object:
        return state.policy


def test_an_algorithm_of_ones_own_is_evaluated_as_it_adapts(config: Config) -> None:
    """By its own rule, at its own rate, and for the steps of the evaluation."""
    learner = Learner(replace(config, algorithm=Own()))
    result = learner.evaluate()
    assert result.returns.shape == (3, 3)
    same = learner.evaluate(inner=GradientStep(lr=3.0))
    other = learner.evaluate(inner=GradientStep(lr=0.0))
    np.testing.assert_array_equal(result.returns, same.returns)
    assert np.any(result.returns != other.returns)


def test_tasks_of_ones_own_and_every_tasks_returns(trained: Run) -> None:
    tasks = [jnp.linspace(0.0, 1.0, 10), jnp.zeros(10)]
    result = trained.evaluate(tasks, episodes=4, steps=1)
    assert result.returns.shape == (2, 2)
    np.testing.assert_array_equal(result.returns[:, 1], 0.0)
    assert result.summary()["returns"][1]["tasks"] == result.returns[1].tolist()
    np.testing.assert_array_equal(result.tasks, jnp.stack(tasks))


def test_the_mode_takes_one_action_after_adaptation_on_samples(trained: Run) -> None:
    """Each arm of the bandit that pays is paid for surely, so that the return shows the arm."""
    tasks = [jnp.zeros(10).at[3].set(1.0)]
    result = trained.evaluate(tasks, episodes=4, steps=1, deterministic=True)
    assert set(np.ravel(result.episode_returns)) <= {0.0, 10.0}
    sampled = trained.evaluate(tasks, episodes=4, steps=1)
    assert not np.array_equal(sampled.episode_returns, result.episode_returns)
    rollout = result.rollouts[1]
    assert len(np.unique(rollout.actions)) == 1
    adapted = trained.adapt(tasks[0], evaluation_keys(1)[1], steps=0)
    assert adapted(jnp.ones(1)).mode() == np.unique(result.rollouts[0].actions)


def test_the_mode_after_a_step_is_that_of_the_adapted_policy(trained: Run) -> None:
    tasks, rule = [jnp.zeros(10).at[3].set(1.0)], GradientStep(50.0)
    result = trained.evaluate(tasks, episodes=4, steps=1, deterministic=True, inner=rule)
    before, after = (np.unique(rollout.actions) for rollout in result.rollouts)
    key = evaluation_keys(result.options.seed)[1]
    adapted = trained.adapt(tasks[0], key, steps=1, episodes=4, inner=rule)
    assert trained.policy(jnp.ones(1)).mode() == before
    assert adapted(jnp.ones(1)).mode() == after
    assert before != after


def test_results_do_not_depend_on_the_chunks(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained.evaluate(5, episodes=4)
    monkeypatch.setattr(evaluation, "_STEPS_AT_ONCE", 2 * 4 * trained.config.env.horizon)
    parts = trained.evaluate(5, episodes=4)
    np.testing.assert_allclose(parts.episode_returns, whole.episode_returns, rtol=1e-5)
    np.testing.assert_array_equal(parts.tasks, whole.tasks)
