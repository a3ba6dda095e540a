from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import flatten, identical, ravel
from support.probes import Clock, Target, rollout_of
from support.settings import iterate, policy_for, setting_of, train
from surefoot.algorithms import (
    MAML,
    Adaptation,
    GradientAdapter,
    LearnerState,
    Setting,
    adapt_to_tasks,
    policy_objective,
)
from surefoot.baselines import Constant, LinearFeatures
from surefoot.options import UserError
from surefoot.rules import AbstractRule, GradientStep, NaturalGradient, OptaxStep, TrustRegion
from surefoot.theory.meta import adapted
from surefoot.types import MetaBatch

KEY = jax.random.key(5)
INNER = GradientStep(lr=0.1)


def live(
    setting: Setting, policy: Any, tasks: Any, key: Any, steps: int, inner: AbstractRule = INNER
) -> Adaptation:
    baseline, scales = setting.estimator.init(key, setting.sampler.env)
    state = LearnerState(policy, scales, (baseline,) * (steps + 1), None)
    adapter = GradientAdapter.of(setting.estimator, state, inner, policy_objective("reinforce"), steps)
    return adapt_to_tasks(setting.sampler, adapter, policy, tasks, key, steps)


def policies_of(adaptation: Adaptation) -> Any:
    """After the last step."""
    return adaptation.learners[-1][0]


def test_the_learner_repeats_the_adaptation_that_was_sampled():
    """Where the learner adapts again from the same parameters on the same data, it predicts the very
    distributions that the query actions were drawn from: every ratio is one."""
    setting = setting_of(Clock())
    policy = policy_for(setting, hidden=(3,), output_scale=1.0)
    adaptation = live(setting, policy, jnp.array([1.0, 1.5, 2.0]), KEY, 2)
    batch = MetaBatch(adaptation.batches[:-1], adaptation.batches[-1])
    objective = adapted(
        policy_objective("surrogate"), INNER, inner_objective=policy_objective("reinforce"), chunk=2
    )
    prediction = eqx.filter_jit(objective.predict)(policy, batch)
    predicted = prediction.query.log_prob(batch.query.actions)
    valid = np.asarray(batch.query.valid)
    np.testing.assert_allclose(
        np.asarray(predicted)[valid], np.asarray(batch.query.log_probs)[valid], atol=1e-5
    )
    before = policy(batch.query.observations).log_prob(batch.query.actions)
    assert np.abs(np.asarray(before - predicted)[valid]).max() > 1e-3
    # Normalised advantages have the mean 0 in each task.
    assert abs(objective.loss(prediction, batch)) < 1e-5


def test_each_task_adapts_from_the_shared_policy_and_by_its_own_data_alone():
    setting = setting_of(Target(), normalise=False)
    policy = policy_for(setting)
    tasks = jnp.array([[1.0], [-1.0], [1.0]])
    adaptation = live(setting, policy, tasks, KEY, 1)
    for i in range(3):
        batch = jax.tree.map(lambda x, i=i: x[i], adaptation.batches[0])
        vector, build = flatten(policy)

        def loss(v: jax.Array, batch: Any = batch, build: Any = build) -> jax.Array:
            return jnp.mean(-build(v)(batch.observations).log_prob(batch.actions) * batch.advantages)

        expected = vector - 0.1 * jax.grad(loss)(vector)
        mine = ravel(jax.tree.map(lambda x, i=i: x[i] if eqx.is_array(x) else x, policies_of(adaptation)))
        np.testing.assert_allclose(mine, expected, atol=1e-5)
    # Another neighbour changes nothing for the first task.
    other = live(setting, policy, tasks.at[1:].set(9.0), KEY, 1)
    first, again = (
        jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, policies_of(a)) for a in (adaptation, other)
    )
    np.testing.assert_allclose(ravel(first), ravel(again), atol=1e-6)


def test_nothing_adapted_is_left_over_for_the_next_time():
    setting = setting_of(Target())
    policy = policy_for(setting)
    kept = jax.tree.map(lambda x: x.copy() if eqx.is_array(x) else x, policy)
    tasks = jnp.array([[1.0], [-1.0]])
    first = live(setting, policy, tasks, KEY, 2)
    assert identical(policy, kept)
    live(setting, policy, -tasks, KEY, 2)
    assert identical(live(setting, policy, tasks, KEY, 2), first)


def test_every_phase_and_every_task_has_its_own_noise():
    setting = setting_of(Target(), episodes=4)
    tasks = jnp.array([[1.0], [1.0]])
    adaptation = live(setting, policy_for(setting), tasks, KEY, 2, GradientStep(lr=0.0))
    assert len(adaptation.rollouts) == len(adaptation.batches) == 3
    # The policy never changes and the tasks are equal: were any noise drawn twice, so would an action be.
    noise = np.concatenate([np.ravel(r.actions) for r in adaptation.rollouts])
    assert len(np.unique(noise)) == 3 * 2 * 4


@pytest.mark.parametrize(
    "algorithm",
    [
        MAML(INNER, TrustRegion(), tasks=3),
        MAML(GradientStep(lr=(0.1, 0.05)), TrustRegion(), inner_steps=2, tasks=3, chunk=2),
        MAML(INNER, TrustRegion(fisher_fraction=0.5), tasks=4, order="first", inner_loss="surrogate"),
        MAML(NaturalGradient(lr=0.1, cg_iterations=3), NaturalGradient(cg_iterations=3), tasks=2),
        MAML(TrustRegion(cg_iterations=2), OptaxStep("sgd", lr=0.1), tasks=2, inner_loss="surrogate"),
    ],
    ids=["one step", "two steps", "first order", "natural gradients", "trust region inside"],
)
def test_an_iteration(algorithm: MAML):
    setting = setting_of(Target(spread=1.0), episodes=8)
    policy = policy_for(setting)
    state = algorithm.init(setting, policy, KEY)
    new, metrics = iterate(algorithm, setting, state, KEY)
    # The ratio at the old parameters is one: the loss before the step is minus the mean of normalised
    # advantages.
    assert abs(metrics["loss"]) < 1e-5
    assert all(jnp.isfinite(value) for value in metrics.values())
    assert {"return", "return_before", "return_after", "episode_length", "entropy"} <= metrics.keys()
    assert metrics["return"] == metrics["return_after"]
    assert metrics["gradient_norm"] > 1e-4
    assert not identical(new.policy, policy)
    assert jnp.isfinite(ravel(new.policy)).all()
    assert jax.tree.structure(new) == jax.tree.structure(state)
    if "kl" in metrics:
        assert 0 < metrics["kl"] <= 0.01 * (1 + 1e-3)
        assert metrics["loss_after"] < metrics["loss"]
    # The same key, the same result, to the last bit.
    assert identical(iterate(algorithm, setting, state, KEY), (new, metrics))
    assert not identical(iterate(algorithm, setting, state, jax.random.key(6))[0].policy, new.policy)


@pytest.mark.parametrize(
    ("order", "inner_loss"), [("second", "reinforce"), ("second", "surrogate"), ("first", "reinforce")]
)
def test_a_step_goes_down_the_loss_after_adaptation(order: Any, inner_loss: Any):
    setting = setting_of(Target(spread=1.0))
    algorithm = MAML(INNER, GradientStep(lr=0.5), tasks=2, order=order, inner_loss=inner_loss)
    state = algorithm.init(setting, policy_for(setting), KEY)
    task_key, play_key = jax.random.split(KEY)
    tasks = setting.sampler.env.sample_tasks(task_key, 2)
    support, query = live(setting, state.policy, tasks, play_key, 1).batches
    vector, build = flatten(state.policy)

    def loss(v: jax.Array, batch: Any, name: str) -> jax.Array:
        log_probs = build(v)(batch.observations).log_prob(batch.actions)
        score = log_probs if name == "reinforce" else jnp.exp(log_probs - batch.log_probs)
        return -jnp.mean(score * batch.advantages)

    def after(v: jax.Array, support: Any, query: Any) -> jax.Array:
        move = -0.1 * jax.grad(loss)(v, support, inner_loss)
        return loss(v + (jax.lax.stop_gradient(move) if order == "first" else move), query, "surrogate")

    def by_hand(v: jax.Array) -> jax.Array:
        return jax.vmap(lambda *batches: after(v, *batches))(support, query).mean()

    new, _ = iterate(algorithm, setting, state, KEY)
    np.testing.assert_allclose(
        ravel(new.policy), vector - 0.5 * jax.jit(jax.grad(by_hand))(vector), atol=1e-5
    )


def test_it_learns_where_to_adapt_from():
    """Targets lie about 2, and the policy starts at 0. From the middle of its targets one step helps most."""
    setting = setting_of(Target(goal=2.0, spread=0.5), episodes=16)
    algorithm = MAML(INNER, TrustRegion(max_kl=0.1, cg_iterations=3), tasks=6, chunk=6)
    state, seen = train(algorithm, setting, policy_for(setting), iterations=12)
    assert abs(float(state.policy(jnp.ones(1)).mean[0]) - 2.0) < 0.8
    first, last = seen[0]["return_after"], np.mean([m["return_after"] for m in seen[-3:]])
    assert first < -3.0
    assert last > first + 2.0


def test_a_baseline_for_each_phase_is_carried_on():
    setting = setting_of(Clock(), baseline=LinearFeatures(), fit="previous-batch", normalise=False)
    algorithm = MAML(INNER, GradientStep(lr=0.0), inner_steps=1, tasks=2)
    state = algorithm.init(setting, policy_for(setting), KEY)
    assert len(state.baselines) == 2
    new, _ = iterate(algorithm, setting, state, KEY)
    assert all(jnp.abs(after).max() > 0 for after in new.baselines)
    assert not identical(new.baselines[0], new.baselines[1])


def test_each_phase_is_judged_by_its_own_baseline_and_later_ones_by_the_last():
    setting = setting_of(Target(), baseline=Constant(), fit="previous-batch", normalise=False)
    baselines = jnp.array(0.0), jnp.array(10.0)
    state = LearnerState(policy_for(setting), setting.estimator.normalisation.init(1), baselines, None)
    adapter = MAML().adapter(setting.estimator, state)
    rollout = rollout_of([[1.0], [4.0]], lengths=[1, 1], terminated=[True, True])
    for phase, level in enumerate((0.0, 10.0, 10.0)):
        batch = adapter.batch(rollout, jnp.asarray(phase))
        np.testing.assert_array_equal(batch.advantages, [[1.0 - level], [4.0 - level]])


def test_held_out_tasks_come_from_the_family():
    setting = setting_of(Target(spread=1.0))
    empty = LearnerState(policy_for(setting), setting.estimator.normalisation.init(1), (), None)
    tasks = MAML().evaluation_tasks(setting.sampler.env, empty, KEY, 4)
    assert tasks.shape == (4, 1)
    assert len(np.unique(tasks)) == 4, "they differ from one another"
    assert jnp.all(jnp.abs(tasks - 1.0) <= 1.0)
    assert not identical(MAML().evaluation_tasks(setting.sampler.env, empty, jax.random.key(6), 4), tasks)


@pytest.mark.parametrize("option", ["inner_steps", "tasks", "chunk"])
def test_wrong_options_are_refused(option: str):
    with pytest.raises(UserError, match=f"{option.replace('_', '-')} is 0; it must be 1 or more"):
        MAML(**{option: 0})
