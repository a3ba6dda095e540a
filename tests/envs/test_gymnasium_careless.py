"""Gymnasium's environments as people write them: what is odd works, what is wrong ends in one message."""

import warnings
from typing import Any

import jax
import numpy as np
import pytest

from surefoot.envs import Gymnasium
from surefoot.envs.gymnasium import _in_yaml, _read
from surefoot.experiment import Learner
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.samplers import BatchedSampler
from surefoot.types import Continuous, MultiDiscrete, Rollout, vector

KEY = jax.random.key(0)
ODD = "support.careless_envs:"


def sampled(env: Gymnasium, episodes: int = 2, policy: Any = None) -> Rollout:
    kind = GaussianMLP if isinstance(env.action_space, Continuous) else CategoricalMLP
    policy = policy or kind(hidden=()).build(KEY, env.observation_space, env.action_space)
    sampler = BatchedSampler(env, episodes, 1)
    try:
        return sampler.submit(policy, env.sample_tasks(KEY, 1)[0], KEY).result()
    finally:
        sampler.close()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ObservesNothingStated", "must state its `observation_space` when it is made, and has none"),
        ("ObservesNone", "must state its `observation_space`"),
        ("ActsNothingStated", "must state its `action_space`"),
        ("Blind", "which has no elements to learn from"),
        ("Paralysed", "with one element or more"),
        ("ExitsWhenMade", "raised SystemExit: 0 at"),
        ("Exits", "`step` raised SystemExit: 0 at"),
        ("LeavesTheGenerator", "`step` raised GeneratorExit at"),
        ("TalksForEver", "zzz …"),
        ("EndsOfMany", "gave the flag `terminated` as array([ True, False]). "),
        ("EndsByText", "gave the flag `terminated` as 'no'"),
        ("PaysWhatCannotBeShown", "a CannotBeShown whose `repr` raised RuntimeError"),
        ("SpaceOfLaterOn", "SpaceOfLaterOn: `observation_space` raised TypeError: object of type 'NoneType'"),
        ("PaysInDoublePrecision", "gave a reward that is not finite: array(1.e+300). "),
        ("SeesRagged", "which is no array: ValueError"),
        ("SeesOutsideItsSpace", "It must give an element of its space, Dict('place': Discrete(3)"),
        ("LacksAPart", "It must give an element of its space"),
        ("TasksOfText", "tasks are arrays of numbers"),
        ("Panics", "`step` raised CancelledError: no exception of the usual kind at"),
        ("NamesPartsByAllSorts", "The keys [1, 'a'] of an observation space cannot be sorted"),
        ("always_the_same", "gives the same environment twice"),
    ],
)
def test_what_is_wrong_is_one_short_message(name: str, told: str):
    with pytest.raises(UserError) as raised:
        sampled(Gymnasium(ODD + name, time_limit=4))
    message = str(raised.value)
    assert told in message
    assert len(message) < 1000
    assert "\n" not in message


def test_the_line_of_the_users_code_is_named():
    with pytest.raises(UserError, match=r"careless_envs\.py:\d+\. That was at step 1"):
        sampled(Gymnasium(ODD + "Exits", time_limit=4))


def test_a_close_that_fails_is_a_warning():
    with pytest.warns(RuntimeWarning, match=r"CannotClose: `close` raised AttributeError: .* at .*\.py:\d+"):
        rollout = sampled(Gymnasium(ODD + "CannotClose", time_limit=4))
    assert rollout.valid.sum() == 6


def test_an_environment_may_cut_its_episodes_short():
    """The end counts as a time limit's: the value of what would follow is bootstrapped."""
    rollout = sampled(Gymnasium(ODD + "CutsShort", time_limit=4))
    assert rollout.valid.tolist() == [[True, True, False, False]] * 2
    assert rollout.truncated.tolist() == [[False, True, False, False]] * 2
    assert not rollout.terminated.any()


def test_bounded_actions_are_in_the_units_of_the_bounds():
    simulator = Gymnasium(ODD + "Throttle", time_limit=3).simulator(1)
    keys = np.asarray(jax.random.key_data(jax.random.split(KEY, 4)))
    simulator.begin(keys, np.zeros((4, 0)))
    actions = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 6.0], [7.0, 4.0]], np.float32)
    outcome = simulator.step(np.arange(4), actions)
    np.testing.assert_allclose(outcome.rewards, [1000.0, 3500.0, 6000.0, 6000.0])
    assert outcome.terminated.tolist() == [False, False, True, False], "no bounds, no change"
    simulator = Gymnasium(ODD + "Throttle", time_limit=3, actions="clipped").simulator(1)
    simulator.begin(keys[:1], np.zeros((1, 0)))
    assert simulator.step(np.arange(1), np.array([[2000.0, 0.0]], np.float32)).rewards == [2000.0]


@pytest.mark.parametrize(
    ("name", "counts", "start"), [("Piano", (2, 3, 4, 2), 5.0), ("Switches", (2, 2, 2), 0.0)]
)
def test_several_discrete_actions(name: str, counts: tuple[int, ...], start: float):
    env = Gymnasium(ODD + name, time_limit=3)
    assert env.action_space == MultiDiscrete(counts)
    rollout = sampled(env, 8)
    assert rollout.actions.shape == (8, 3, len(counts))
    np.testing.assert_allclose(rollout.rewards, np.asarray(rollout.actions).sum(axis=-1) + start)
    assert rollout.actions.max(axis=(0, 1)).tolist() == [n - 1 for n in counts]


def test_constructor_arguments():
    assert Gymnasium(ODD + "Sized", ("size=5", "loud=false", "name=b c")).observation_space == vector(5)
    with pytest.raises(UserError, match=r"Sized raised TypeError: .*'size'.*--env.kwargs NAME=VALUE"):
        _ = Gymnasium(ODD + "Sized").observation_space
    with pytest.raises(UserError, match="kwargs is 'size'; it must be NAME=VALUE"):
        Gymnasium(ODD + "Sized", ("size",))
    with pytest.raises(UserError, match="it must be each name once"):
        Gymnasium(ODD + "Sized", ("size=3", "size=5"))


@pytest.mark.parametrize("value", ["1e3", "true", "12", "a: b", "b c", "1e-3", "", "é\n", [3, 4], 1e-5, None])
def test_arguments_from_a_mapping_reach_the_constructor_as_they_are(value: object):
    assert _read(_in_yaml(value)) == value


def test_a_function_brings_its_wrappers_and_their_tasks():
    env = Gymnasium(ODD + "wrapped", ("size=3",), time_limit=4)
    assert env.observation_space == vector(3)
    rollout, task = sampled(env), env.sample_tasks(KEY, 1)[0]
    np.testing.assert_allclose(rollout.rewards[:, :2], float(task[0]))
    assert rollout.truncated[:, 1].all()
    with pytest.raises(UserError, match="STARTED is no class and no function"):
        _ = Gymnasium(ODD + "STARTED").observation_space


def test_an_environment_may_compute_with_jax_also_where_a_program_meets_it_first():
    env = Gymnasium(ODD + "ComputesWithJax", time_limit=4)
    task = jax.jit(lambda key: env.sample_tasks(key, 1))(KEY)
    np.testing.assert_array_equal(task, env.sample_tasks(KEY, 1))
    assert sampled(env).valid.sum() == 6


def test_an_environment_that_changes_its_task_has_it_unchanged_in_the_next_episode():
    simulator = Gymnasium(ODD + "MovesItsGoal", time_limit=4).simulator(1)
    keys, rows = np.asarray(jax.random.key_data(jax.random.split(KEY, 2))), np.arange(2)
    simulator.begin(keys, np.zeros((2, 2), np.float32))
    moved = simulator.step(rows, np.zeros(2, np.int32)).observations
    np.testing.assert_array_equal(moved, np.ones((2, 2)))
    np.testing.assert_array_equal(simulator.renew(rows, keys), np.zeros((2, 2)))


def test_a_task_that_cannot_be_sampled_is_one_message():
    learner = Learner(env=Gymnasium(ODD + "KnowsFewTasks", time_limit=4), algorithm="ppo", streams=2, steps=4)
    with pytest.raises(UserError, match=r"sample_tasks\(\d+, 1\) raised IndexError: .*\.py:\d+\. It must"):
        learner.train(1)


def test_a_spec_and_metadata_of_an_environment_s_own_are_not_gymnasium_s():
    assert Gymnasium(ODD + "SpecOfItsOwn", time_limit=4).frames_per_second == 30


@pytest.mark.parametrize("name", ["Pictures", "Masks"])
def test_observations_are_of_their_space_s_type_whatever_is_given(name: str):
    """Networks divide bytes by 255: what is acted on and what is learned from must be the same."""
    env = Gymnasium(ODD + name, time_limit=3)
    policy = CategoricalMLP(hidden=()).build(KEY, env.observation_space, env.action_space)
    rollout = sampled(env, policy=policy)
    assert rollout.observations.dtype == env.observation_space.dtype
    again = policy(rollout.observations).log_prob(rollout.actions)
    np.testing.assert_allclose(again, rollout.log_probs, rtol=1e-5)


def test_a_time_limit_of_a_wrapper_s_is_seen():
    assert Gymnasium(ODD + "limited").horizon == 5
    assert Gymnasium(ODD + "limited", ("limit=4",)).horizon == 4
    assert Gymnasium(ODD + "limited", time_limit=3).horizon == 3
    np.testing.assert_array_equal(
        sampled(Gymnasium(ODD + "limited")).rewards, [[1.0, 2.0, 3.0, 4.0, 5.0]] * 2
    )


@pytest.mark.parametrize(
    ("written", "value"), [("1e-3", 1e-3), ("0.5", 0.5), ("3", 3), ("e", "e"), ("'1e-3'", "1e-3")]
)
def test_numbers_are_read_as_they_are_written(written: str, value: object):
    assert _read(written) == value


def test_the_largest_float_is_no_bound():
    env = Gymnasium(ODD + "Boundless", time_limit=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rollout = sampled(env)
    np.testing.assert_allclose(rollout.rewards[..., None], rollout.actions, rtol=1e-6)
