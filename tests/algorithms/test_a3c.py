from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical
from surefoot.algorithms import A3C, Estimation, Estimator, Normalisation, Setting, policy_objective
from surefoot.algorithms.base import LearnerState
from surefoot.algorithms.fragments import Fragment, Learned, Ongoing, learn_fragment
from surefoot.baselines import Zero
from surefoot.envs import DelayedReward, Navigation2D
from surefoot.options import UserError
from surefoot.policies import ActorCritic, CategoricalMLP, RecurrentActorCritic
from surefoot.rules import OptaxStep
from surefoot.samplers import ProcessSampler, ScanSampler
from surefoot.samplers.host_rollouts import key_data
from surefoot.samplers.host_runner import HostRunner
from surefoot.samplers.workers import Workers
from surefoot.theory.objectives import ActorCriticObjective

KEY = jax.random.key(3)
ENV = DelayedReward(3)
ESTIMATION = Estimation(baseline=Zero(), discount=0.9, fit="previous-batch", normalise=False)
POLICY = ActorCritic(hidden=(4,)).build(KEY, ENV.observation_space, ENV.action_space)
OBJECTIVE = ActorCriticObjective(policy_objective("reinforce"), 0.5, None)
ESTIMATOR = Estimator.of(ENV, ESTIMATION)
SCALES = Normalisation().init(ENV.observation_space)
FRAGMENT = Fragment(OBJECTIVE, ESTIMATOR, SCALES, jnp.zeros((1, 0)), rows=4, steps=5)
A = A3C(OptaxStep("sgd", lr=0.1), fragment=5, environments=4, updates=6)


def setting_of(sampler: Any, **changes: Any) -> Setting:
    return Setting.of(sampler, **{"estimation": ESTIMATION, **changes})


def sampler_of(workers: int) -> ProcessSampler:
    return ProcessSampler(ENV, 2, workers=workers, time_limit=60.0, attempts=2)


def words(number: int) -> np.ndarray:
    return key_data(jax.random.fold_in(KEY, number))


def test_a_worker_goes_on_with_its_own_episodes():
    ongoing = Ongoing(HostRunner(ENV, threads=1), FRAGMENT)
    parts = [ongoing.rollout(POLICY, words(i), 4)[0] for i in range(2)]
    times = np.concatenate([part.times for part in parts], axis=1)
    np.testing.assert_array_equal(times, np.tile(np.arange(8) % 3, (4, 1)))
    np.testing.assert_array_equal(parts[1].observations[:, 0], parts[0].next_observations[:, -1])


def test_it_reports_the_episodes_that_ended():
    ongoing = Ongoing(HostRunner(ENV, threads=1), FRAGMENT)
    rollout, returns, lengths = ongoing.rollout(POLICY, words(0), 7)
    assert lengths == [3] * 8
    expected = np.asarray(rollout.rewards)[:, :6].reshape(4, 2, 3).sum(axis=2).T.ravel()
    np.testing.assert_allclose(returns, expected)
    assert sum(returns) == 8  # one at the end of each


def test_the_gradient_is_that_of_the_objective_on_what_was_played():
    learned = learn_fragment(HostRunner(ENV, threads=1), FRAGMENT, POLICY, words(0))
    rollout, *_ = Ongoing(HostRunner(ENV, threads=1), FRAGMENT).rollout(POLICY, words(0), FRAGMENT.steps)

    def loss(policy: Any) -> Any:
        values = POLICY.values(rollout.observations)
        following = jnp.where(rollout.terminated, 0.0, POLICY.values(rollout.next_observations))
        targets = [rollout.rewards[:, -1] + 0.9 * following[:, -1]]
        for t in range(FRAGMENT.steps - 2, -1, -1):
            on = jnp.where(rollout.terminated[:, t], 0.0, targets[0])
            targets.insert(0, rollout.rewards[:, t] + 0.9 * on)
        target = jnp.stack(targets, axis=1)
        log_probs = policy(rollout.observations).log_prob(rollout.actions)
        squared = jnp.mean((policy.values(rollout.observations) - target) ** 2)
        return -jnp.mean(log_probs * (target - values)) + 0.5 * squared / 2

    expected, gradient = eqx.filter_value_and_grad(loss)(POLICY)
    for got, wanted in zip(jax.tree.leaves(learned.gradient), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    np.testing.assert_allclose(learned.loss, expected, atol=1e-6)


@pytest.fixture(scope="module")
def two_workers() -> Any:
    sampler = sampler_of(2)
    yield setting_of(sampler)
    sampler.close()


def trained(algorithm: A3C, setting: Setting, iterations: int) -> tuple[LearnerState, list[Any]]:
    state, seen = algorithm.init(setting, POLICY, KEY), []
    for i in range(iterations):
        state, metrics = algorithm.iterate(setting, state, jax.random.fold_in(KEY, i))
        seen.append(metrics)
    return state, seen


def test_every_gradient_is_applied_and_staleness_is_counted(two_workers: Setting):
    state, (first, second) = trained(A, two_workers, 2)
    assert first["steps"] == 6 * 4 * 5
    assert second["steps"] == 2 * first["steps"]
    # Applied as updates 0 to 5, after 0, 0, 1, 2, 3 and 4 others when they were asked for, in any order.
    assert first["staleness"] == pytest.approx((15 - 10) / 6)
    assert first["staleness_max"] >= 1
    assert not identical(state.policy, POLICY)
    assert np.isfinite([float(x) for x in second.values()]).all()


def test_its_synchronous_twin_is_the_same_every_time(two_workers: Setting):
    twin = replace(A, synchronous=True)
    sampler = sampler_of(2)
    once, metrics = trained(twin, setting_of(sampler), 2)
    sampler.close()
    two_workers.sampler.close()
    again, _ = trained(twin, two_workers, 2)
    assert identical(once.policy, again.policy)
    assert metrics[0]["staleness"] == 0
    assert metrics[0]["steps"] == 6 * 2 * 4 * 5


def test_one_worker_alone_is_never_stale():
    sampler = sampler_of(1)
    asynchronous, (metrics,) = trained(A, setting_of(sampler), 1)
    sampler.close()
    synchronous, _ = trained(replace(A, synchronous=True), setting_of(sampler), 1)
    sampler.close()
    assert metrics["staleness_max"] == 0
    assert jnp.array_equal(synchronous.own.progress.steps, asynchronous.own.progress.steps)


class Told(Workers):
    """A worker that plays nothing: every gradient is `slope`, and the words of each fragment are kept."""

    def __init__(self, slope: float, seen: list[bytes]) -> None:
        self.slope, self.seen = slope, seen

    def submit(self, function: Any, *arguments: Any, about: str = "") -> Future[Any]:
        future: Future[Any] = Future()
        if function is not learn_fragment:
            future.set_result(None)
            return future
        _, policy, key_words = arguments
        self.seen.append(key_words.tobytes())
        gradient, nothing = jax.tree.map(lambda x: jnp.full_like(x, self.slope), policy), np.zeros(0)
        future.set_result(Learned(gradient, jnp.zeros(()), jnp.zeros(()), nothing, nothing.astype(int)))
        return future


def told(*slopes: float) -> tuple[Setting, list[bytes]]:
    """A setting with such workers, and the words that they are given."""
    sampler, seen = sampler_of(len(slopes)), []
    vars(sampler)["solo"] = tuple(Told(slope, seen) for slope in slopes)
    return setting_of(sampler), seen


@pytest.mark.parametrize(("synchronous", "updates"), [(True, 2), (False, 4)])
def test_every_fragment_has_random_numbers_of_its_own(synchronous: bool, updates: int):
    setting, seen = told(0.0, 0.0)
    trained(replace(A, synchronous=synchronous, updates=updates), setting, 1)
    assert len(set(seen)) == len(seen) == 4


def test_its_synchronous_twin_applies_the_mean_of_the_gradients():
    setting, _ = told(1.0, 3.0)
    state, _ = trained(A3C(OptaxStep("sgd", lr=0.5), updates=1, synchronous=True), setting, 1)
    for before, after in zip(jax.tree.leaves(POLICY), jax.tree.leaves(state.policy), strict=True):
        np.testing.assert_allclose(after, before - 1.0, atol=1e-6)


def test_the_options_of_the_loss_reach_the_workers():
    setting = setting_of(sampler_of(1))
    algorithm = replace(A, entropy_bonus=0.3, value_coefficient=0.7)
    fragment = algorithm._fragment(setting, algorithm.init(setting, POLICY, KEY))
    assert fragment.objective == ActorCriticObjective(policy_objective("reinforce", 0.3), 0.7, None)
    assert fragment.objective != OBJECTIVE


def test_what_it_cannot_serve_is_said_before_anything_starts():
    sampler, plain = sampler_of(1), CategoricalMLP(hidden=()).build(KEY, 3, ENV.action_space)
    recurrent = RecurrentActorCritic(units=4).build(KEY, ENV.observation_space, ENV.action_space)
    anyone = sampler_of(1)
    vars(anyone)["keeps_workers"] = False  # as of Ray's
    for setting, policy, said in [
        (setting_of(ScanSampler(ENV, 2)), POLICY, "set --sampler processes"),
        (setting_of(anyone), POLICY, "any process that is free; set --sampler processes"),
        (setting_of(sampler), plain, "--policy actor-critic"),
        (setting_of(sampler), recurrent, "keep no memory"),
        (setting_of(sampler, normalisation=Normalisation(rewards=True)), POLICY, "share no statistics"),
        (setting_of(sampler, estimation=Estimation(credit="whole-return")), POLICY, "credit gae"),
    ]:
        with pytest.raises(UserError, match=said):
            A.init(setting, policy, KEY)


def test_traced_it_has_the_form_of_an_iteration():
    setting = setting_of(sampler_of(1))
    state = A.init(setting, POLICY, KEY)
    following, metrics = eqx.filter_eval_shape(A.iterate, setting, state, KEY)
    assert jax.tree.structure(following) == jax.tree.structure(state)
    assert {"loss", "return", "staleness"} <= metrics.keys()
    wrong = ActorCritic(hidden=(4,)).build(KEY, 2, Navigation2D().action_space)
    with pytest.raises(Exception, match=r"dot_general|shape|Shape|incompatible"):
        eqx.filter_eval_shape(A.iterate, setting, replace(state, policy=wrong), KEY)


def test_training_begins_with_episodes_and_a_task_of_its_own(two_workers: Setting):
    """The workers have played in another training before, here with the same key."""
    twin = replace(A, synchronous=True)
    once, _ = trained(twin, two_workers, 2)
    again, _ = trained(twin, two_workers, 2)
    assert identical(once.policy, again.policy)
