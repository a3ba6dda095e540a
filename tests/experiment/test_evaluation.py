from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.experiment import Config, Evaluation, evaluate, load, preset
from surefoot.experiment.evaluation import _inner_loss, adapt, confidence_interval
from surefoot.experiment.run import Run
from surefoot.rules import GradientStep, TrustRegion


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
    }
    assert [row["step"] for row in summary["returns"]] == [0, 1, 2]
    for row, values in zip(summary["returns"], result.returns, strict=True):
        low, high = row["ci95"]
        assert row["mean"] == pytest.approx(values.mean())
        assert low < row["mean"] < high


def test_confidence_interval_by_hand() -> None:
    # Mean 2, standard deviation 1, t of 2 degrees of freedom 4.3027.
    half = 4.302653 / np.sqrt(3)
    assert confidence_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx([2 - half, 2 + half])
    assert confidence_interval(np.array([1.0])) is None


def test_returns_are_undiscounted_sums(trained: Run) -> None:
    result = evaluate(trained.config, trained.state.learner, 6, Evaluation(3, 4, 1))
    rewards = np.asarray(result.adaptation.rollouts[1].rewards)
    np.testing.assert_allclose(result.returns[1], rewards.sum(axis=-1).mean(axis=-1))


def test_the_seed_alone_decides(trained: Run) -> None:
    np.testing.assert_array_equal(returns(trained, seed=4), returns(trained, seed=4))
    assert np.any(returns(trained, seed=4) != returns(trained, seed=5))


def test_adaptation_starts_anew_for_every_task(trained: Run) -> None:
    """The first task's results do not depend on how many others there are."""
    one = evaluate(trained.config, trained.state.learner, 6, Evaluation(1, 4, 2))
    assert one.returns.shape == (3, 1)
    tasks = jax.tree.map(lambda x: jnp.concatenate([x, 1 - x]), one.tasks)
    key = jax.random.key(0)
    alone = adapt(trained.config, trained.state.learner, one.tasks, key, steps=2, episodes=4)
    among = adapt(trained.config, trained.state.learner, tasks, key, steps=2, episodes=4)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(among), strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-3, atol=1e-4)


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


def test_a_rule_that_leaves_the_data_is_given_a_loss_whose_value_means_something(config: Config) -> None:
    """The inner steps of training are taken on the pseudo-loss."""
    assert _inner_loss(config, config.algorithm.inner) == "reinforce"
    assert _inner_loss(config, TrustRegion()) == "surrogate"
    assert _inner_loss(preset("cartpole/ppo"), GradientStep()) == "reinforce"
