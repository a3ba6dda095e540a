from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical
from support.faults import SlowToTrace
from support.probes import Clock
from surefoot.algorithms import Normalisation
from surefoot.checks import check_sampler
from surefoot.envs import Bandit, Gymnasium, HalfCheetah, HalfCheetahDir, Navigation2D, Step, Trial
from surefoot.envs.replay import ActionHistory
from surefoot.envs.simulation import AbstractSimulator
from surefoot.options import UserError
from surefoot.policies import GRU, AbstractPolicy, CategoricalMLP, GaussianMLP
from surefoot.samplers import BatchedSampler, BatchedStreams, Processes, ProcessSampler, ScanSampler
from surefoot.samplers.base import AbstractCollector
from surefoot.samplers.remote_streams import RemoteStreams
from surefoot.types import Continuous, Discrete, Rollout, image

KEY = jax.random.key(3)
CHEETAH = HalfCheetahDir(horizon=12)
POLICY = GaussianMLP(hidden=(4,)).build(jax.random.key(0), 17, CHEETAH.action_space)


def many(policy: AbstractPolicy, count: int) -> Any:
    return jax.tree.map(lambda x: jnp.stack([x] * count) if eqx.is_array(x) else x, policy)


def close(a: Rollout, b: Rollout, atol: float = 1e-5) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


@pytest.mark.parametrize(
    "env", [Clock(horizon=4), Navigation2D(horizon=5), Bandit(arms=2, rewards="gaussian", horizon=3)]
)
def test_it_draws_what_the_scan_sampler_draws(env: Any):
    options = GaussianMLP if isinstance(env.action_space, Continuous) else CategoricalMLP
    policy = options(hidden=(3,)).build(jax.random.key(0), env.observation_space, env.action_space)
    tasks = env.sample_tasks(KEY, 3)
    expected = eqx.filter_jit(ScanSampler(env, 6).sample)(many(policy, 3), tasks, KEY)
    sampler = BatchedSampler(env, 6, threads=1)
    got = sampler.sample(many(policy, 3), tasks, KEY)
    close(got, expected)
    for name in ("valid", "terminated", "truncated", "times"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


def test_it_draws_what_the_scan_sampler_draws_for_a_policy_that_remembers():
    env = Clock(horizon=4)
    policy = GRU(units=4, output_scale=1.0).build(jax.random.key(0), 1, env.action_space)
    expected = ScanSampler(env, 5).submit(policy, jnp.array(2.0), KEY).result()
    close(BatchedSampler(env, 5, threads=1).submit(policy, jnp.array(2.0), KEY).result(), expected)


def test_a_policy_may_hold_statistics_of_each_part_of_a_dictionary():
    env = Trial(Clock(horizon=2), episodes=2)
    inner = GRU(units=4).build(jax.random.key(0), env.observation_space, env.action_space)
    normalisation = Normalisation(observations=True)
    policy = normalisation.policy(inner, normalisation.init(env.observation_space))
    expected = ScanSampler(env, 3).submit(policy, jnp.array(2.0), KEY).result()
    close(BatchedSampler(env, 3, threads=1).submit(policy, jnp.array(2.0), KEY).result(), expected)


@pytest.mark.parametrize("env", [Clock(horizon=4), CHEETAH])
def test_it_keeps_the_contract(env: Any):
    sampler = BatchedSampler(env, 3, threads=2)
    assert check_sampler(sampler) == []
    sampler.close()


@pytest.mark.parametrize("episodes", [2, 12], ids=["together", "in halves"])
def test_physics_do_not_depend_on_threads_other_tasks_or_other_episodes(episodes: int):
    tasks = jnp.array([1.0, -1.0, 1.0])
    one, two, five = (
        BatchedSampler(CHEETAH, episodes, n).sample(many(POLICY, 3), tasks, KEY) for n in (1, 2, 5)
    )
    assert identical(one, two)
    assert identical(one, five)
    few = BatchedSampler(CHEETAH, 2, 2).sample(many(POLICY, 2), tasks[:2], KEY)
    # To the rounding of the policy's products, which the physics make much of.
    close(few, jax.tree.map(lambda x: x[:2, :2], one), atol=1e-2)


def test_many_tasks_of_one_episode_are_sampled_in_halves_too():
    tasks = jnp.tile(jnp.array([1.0, -1.0]), 20)
    one, two = (BatchedSampler(CHEETAH, 1, n).sample(many(POLICY, 40), tasks, KEY) for n in (1, 2))
    assert identical(one, two)
    few = BatchedSampler(CHEETAH, 1, 2).sample(many(POLICY, 4), tasks[:4], KEY)
    close(few, jax.tree.map(lambda x: x[:4], one), atol=1e-2)


class Watched(AbstractSimulator):
    """A simulator that counts its steps, remembers how many threads it was given, and may be interrupted at
    the first step."""

    def __init__(self, simulator: AbstractSimulator, fails: bool = False) -> None:
        self._simulator, self._fails, self.steps = simulator, fails, 0
        self.threads: list[int] = []

    def begin(self, keys: Any, tasks: Any) -> Any:
        return self._simulator.begin(keys, tasks)

    def renew(self, rows: Any, keys: Any) -> Any:
        return self._simulator.renew(rows, keys)

    def step(self, rows: Any, actions: Any) -> Any:
        if self._fails:
            raise KeyboardInterrupt
        self.steps += 1
        return self._simulator.step(rows, actions)

    def use(self, threads: int) -> None:
        self.threads.append(threads)
        self._simulator.use(threads)


def test_a_half_that_has_ended_leaves_its_threads_to_the_other():
    halves: list[Watched] = []

    @dataclass(frozen=True)
    class Family(HalfCheetahDir):
        def simulator(self, threads: int) -> AbstractSimulator:
            halves.append(Watched(super().simulator(threads)))
            return halves[-1]

    sampler = BatchedSampler(Family(horizon=4), 8, threads=5)
    for _ in range(2):
        sampler.submit(POLICY, jnp.array(1.0), KEY).result()
    assert [half.threads for half in halves] == [[3, 5, 3, 5]] * 2
    sampler.close()


@pytest.mark.parametrize("failing", [0, 1])
def test_if_one_half_is_interrupted_the_other_stops(failing: int):
    halves: list[Watched] = []

    @dataclass(frozen=True)
    class Family(HalfCheetahDir):
        def simulator(self, threads: int) -> AbstractSimulator:
            halves.append(Watched(super().simulator(threads), fails=len(halves) == failing))
            return halves[-1]

    sampler = BatchedSampler(Family(horizon=5_000), 32, threads=2)
    with pytest.raises(KeyboardInterrupt):
        sampler.submit(POLICY, jnp.array(1.0), KEY).result()
    assert halves[1 - failing].steps < 5_000
    sampler.close()


def test_what_is_drawn_after_closing_is_the_same():
    sampler = BatchedSampler(CHEETAH, 2, threads=2)
    before = sampler.submit(POLICY, jnp.array(1.0), KEY).result()
    sampler.close()
    sampler.close()
    assert identical(sampler.submit(POLICY, jnp.array(1.0), KEY).result(), before)
    sampler.close()


def test_traced_it_gives_the_form_of_what_it_draws():
    sampler, tasks = BatchedSampler(CHEETAH, 2, threads=1), jnp.array([1.0, -1.0])
    form = eqx.filter_eval_shape(sampler.sample, many(POLICY, 2), tasks, KEY)
    drawn = sampler.sample(many(POLICY, 2), tasks, KEY)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), form) == jax.tree.map(
        lambda x: (x.shape, x.dtype), drawn
    )


PLAIN = replace(HalfCheetah(), horizon=7)
STREAMS = BatchedStreams(PLAIN, streams=3, steps=10, threads=2)


def stream(sampler: BatchedStreams, batches: int) -> tuple[list[Any], list[Rollout]]:
    task = jnp.zeros(0)
    where, drawn = [sampler.start(POLICY, task, KEY)], []
    for k in range(batches):
        after, rollout = sampler.collect(POLICY, task, where[-1], jax.random.fold_in(KEY, k))
        where.append(after)
        drawn.append(rollout)
    return where, drawn


def test_streams_go_on_where_the_last_batch_stopped():
    _, (first, second) = stream(STREAMS, 2)
    assert first.valid.all()
    times = np.concatenate([first.times, second.times], axis=1)
    np.testing.assert_array_equal(times, np.tile(np.arange(20) % 7, (3, 1)))
    np.testing.assert_array_equal(first.truncated, first.times == 6)
    on = np.asarray(first.times[:, 1:] > 0)
    np.testing.assert_array_equal(
        np.asarray(first.observations[:, 1:])[on], np.asarray(first.next_observations[:, :-1])[on]
    )
    assert not np.isclose(first.observations[:, 7], first.next_observations[:, 6]).all()
    np.testing.assert_array_equal(second.observations[:, 0], first.next_observations[:, -1])


def test_streams_go_on_from_a_checkpoint_bit_for_bit():
    where, drawn = stream(STREAMS, 3)
    saved = jax.tree.map(lambda x: jnp.asarray(np.array(x)), where[2])
    anew = BatchedStreams(PLAIN, streams=3, steps=10, threads=1)
    after, again = anew.collect(POLICY, jnp.zeros(0), saved, jax.random.fold_in(KEY, 2))
    assert identical(again, drawn[2])
    assert identical(after, where[3])


def test_streams_forget_where_an_episode_ends():
    policy = GRU(units=4, output_scale=1.0).build(jax.random.key(0), 17, PLAIN.action_space)
    task = jnp.zeros(0)
    where, rollout = STREAMS.collect(policy, task, STREAMS.start(policy, task, KEY), KEY)
    expected = policy.unroll(rollout.observations, rollout.times == 0, rollout.memory)
    np.testing.assert_allclose(expected.log_prob(rollout.actions), rollout.log_probs, atol=1e-4)
    assert not identical(where.memory, rollout.memory)


class Resumed(Watched):
    """A wrapper of a simulator whose episodes can be saved, and no `AbstractResumableSimulator` itself."""

    def __init__(self, simulator: Any) -> None:
        Watched.__init__(self, simulator)
        self.words, self.save, self.restore = simulator.words, simulator.save, simulator.restore

    @property
    def is_resumable(self) -> bool:
        return self._simulator.is_resumable


def test_streams_of_a_wrapped_simulator_are_those_of_the_simulator():
    @dataclass(frozen=True)
    class Family(HalfCheetah):
        def simulator(self, threads: int) -> AbstractSimulator:
            return Resumed(super().simulator(threads))

    wrapped = BatchedStreams(replace(Family(), horizon=7), streams=3, steps=10, threads=2)
    assert identical(stream(wrapped, 2), stream(STREAMS, 2))


def test_streams_need_episodes_that_can_be_saved():
    sampler = BatchedStreams(Trial(GYM, episodes=2), streams=2, steps=3, threads=1)
    with pytest.raises(UserError, match="cannot be saved between batches; use whole episodes: --streams 0"):
        sampler.start(POLICY, jnp.array(1.0), KEY)


GYM = Gymnasium("CartPole-v1", time_limit=15)
GYM_POLICY = CategoricalMLP(hidden=(4,)).build(jax.random.key(0), 4, GYM.action_space)


def batches(
    sampler: AbstractCollector, state: Any, which: Iterable[int], policy: Any = GYM_POLICY, task: Any = None
) -> tuple[Any, list[Rollout]]:
    """The state after these batches, and the batches."""
    drawn, task = [], jnp.zeros(0) if task is None else task
    for k in which:
        state, rollout = sampler.collect(policy, task, state, jax.random.fold_in(KEY, k))
        drawn.append(rollout)
    return state, drawn


def test_streams_of_gymnasium_go_on_after_a_restart():
    here = BatchedStreams(GYM, streams=3, steps=10, threads=1)
    middle, first = batches(here, here.start(GYM_POLICY, jnp.zeros(0), KEY), range(2))
    assert any((rollout.terminated | rollout.truncated).any() for rollout in first)
    assert (np.asarray(middle.times) > 0).any()
    # The other sampler takes the actions of the episodes under way again.
    anew = BatchedStreams(GYM, streams=3, steps=10, threads=1)
    assert identical(batches(anew, middle, range(2, 4)), batches(here, middle, range(2, 4)))


def test_streams_in_workers_do_not_depend_on_their_number_or_fate():
    here = BatchedStreams(GYM, streams=3, steps=10, threads=1)
    start = here.start(GYM_POLICY, jnp.zeros(0), KEY)
    two, one = (Processes(workers=n).of_streams(GYM, streams=3, steps=10) for n in (2, 1))
    try:
        middle, first = batches(two, start, range(2))
        for rollout, local in zip(first, batches(here, start, range(2))[1], strict=True):
            close(rollout, local)
        end = batches(two, middle, [2])
        assert identical(batches(one, middle, [2]), end)
        assert isinstance(two, RemoteStreams)
        for worker in two._sampler.solo:
            worker.close()  # others take their place
        assert identical(batches(two, middle, [2]), end)
    finally:
        one.close()
        two.close()


@dataclass(frozen=True)
class Noisy(Navigation2D):
    """A state of several types, a random key among them."""

    horizon: int = 7

    def reset(self, key: Any, task: Any) -> Any:
        state, seen = super().reset(key, task)
        return {"key": key, "even": jnp.array(True), "bytes": jnp.zeros(3, jnp.uint8), "at": state}, seen

    def step(self, key: Any, state: Any, action: Any, task: Any) -> Any:
        step = super().step(key, state["at"], action + jax.random.normal(state["key"], (2,)), task)
        following = {
            "key": jax.random.fold_in(state["key"], 1),
            "even": ~state["even"],
            "bytes": state["bytes"] + 1,
            "at": step.state,
        }
        return replace(step, state=following)


JAX_ENV, JAX_TASK = Noisy(), jnp.array([0.2, 0.1])
JAX_POLICY = GaussianMLP(hidden=(4,)).build(jax.random.key(0), 2, JAX_ENV.action_space)


def test_streams_in_jax_go_on_after_a_restart_bit_for_bit():
    here = BatchedStreams(JAX_ENV, streams=3, steps=10, threads=1)
    start = here.start(JAX_POLICY, JAX_TASK, KEY)
    middle, first = batches(here, start, range(2), JAX_POLICY, JAX_TASK)
    assert any(rollout.truncated.any() for rollout in first)
    assert (np.asarray(middle.times) > 0).all()
    np.testing.assert_array_equal(middle.observations, first[-1].next_observations[:, -1])
    anew = BatchedStreams(JAX_ENV, streams=3, steps=10, threads=1)
    then = batches(here, middle, range(2, 4), JAX_POLICY, JAX_TASK)
    assert identical(batches(anew, middle, range(2, 4), JAX_POLICY, JAX_TASK), then)


def test_streams_in_jax_in_workers_do_not_depend_on_their_number():
    here = BatchedStreams(JAX_ENV, streams=3, steps=10, threads=1)
    start = here.start(JAX_POLICY, JAX_TASK, KEY)
    two, one = (Processes(workers=n).of_streams(JAX_ENV, streams=3, steps=10) for n in (2, 1))
    with closing(two), closing(one):
        middle, first = batches(two, start, range(2), JAX_POLICY, JAX_TASK)
        for rollout, local in zip(
            first, batches(here, start, range(2), JAX_POLICY, JAX_TASK)[1], strict=True
        ):
            close(rollout, local)
        end = batches(two, middle, [2], JAX_POLICY, JAX_TASK)
        assert identical(batches(one, middle, [2], JAX_POLICY, JAX_TASK), end)


def test_vectors_of_bytes_are_numbers_from_the_first_batch_on():
    """A run whose first batch changed the type of its state could not be resumed."""
    env = Gymnasium("support.gymnasium_envs:Memory", time_limit=5)
    policy = CategoricalMLP(hidden=(2,)).build(KEY, env.observation_space, env.action_space)
    with closing(BatchedStreams(env, 2, 4, 1)) as streams:
        start = streams.start(policy, jnp.zeros(0), KEY)
        state, rollout = streams.collect(policy, jnp.zeros(0), start, KEY)
    assert state.observations.dtype == start.observations.dtype == rollout.observations.dtype == jnp.float32


@dataclass(frozen=True)
class Pictures(Clock):
    """Whole numbers that are no bytes."""

    @property
    def observation_space(self):
        return image(8, 8, 1, np.int32)

    def reset(self, key, task):
        state, _ = Clock.reset(self, key, task)
        return state, jax.random.randint(key, (8, 8, 1), 0, 256, jnp.int32)

    def step(self, key, state, action, task):
        outcome = Clock.step(self, key, state, action, task)
        picture = jax.random.randint(key, (8, 8, 1), 0, 256, jnp.int32)
        return Step(outcome.state, picture, outcome.reward, outcome.terminated)


def test_pictures_are_learned_from_as_they_were_acted_on():
    env = Pictures(horizon=3)
    policy = GaussianMLP(hidden=(4,)).build(KEY, env.observation_space, env.action_space)
    with closing(BatchedSampler(env, 2, 1)) as sampler:
        rollout = sampler.submit(policy, env.sample_tasks(KEY, 1)[0], KEY).result()
    assert rollout.observations.dtype == jnp.int32
    seen = policy(rollout.observations).log_prob(rollout.actions)
    np.testing.assert_allclose(seen[rollout.valid], rollout.log_probs[rollout.valid], atol=1e-5)


def test_a_batch_of_another_task_is_of_that_task():
    env = Gymnasium("support.gymnasium_envs:Goals", time_limit=50)
    policy = GaussianMLP(hidden=()).build(KEY, env.observation_space, env.action_space)
    tasks = [{"goal": jnp.full(2, x)} for x in (0.1, 0.9)]
    with closing(BatchedStreams(env, 2, 4, 1)) as streams, closing(BatchedStreams(env, 2, 4, 1)) as others:
        state, _ = streams.collect(policy, tasks[0], streams.start(policy, tasks[0], KEY), KEY)
        one, other = (each.collect(policy, tasks[1], state, KEY)[1] for each in (streams, others))
    np.testing.assert_array_equal(one.rewards, other.rewards)


def test_an_episode_s_key_may_have_any_number_of_words():
    history = ActionHistory(5, Discrete(3))
    with jax.default_prng_impl("rbg"):
        longer = ActionHistory(5, Discrete(3))
        keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), 2)))
    for one, words in ((history, keys[:, :2]), (longer, keys)):
        one.begin(words, None)
        one.add(np.arange(2), np.array([1, 2], np.int32))
        again, taken = one.read(one.save())
        np.testing.assert_array_equal(again, words)
        assert [x.tolist() for x in taken] == [[1], [2]]


def test_saved_episodes_are_no_longer_than_need_be_where_the_longest_is_very_long():
    history = ActionHistory(1_000_000, Continuous(17))
    history.begin(np.ones((2, 2), np.uint32), None)
    history.add(np.arange(2), np.ones((2, 17), np.float32))
    assert history.words() == 0
    assert history.save().shape == (2, 1024)
    assert [x.shape for x in history.read(history.save())[1]] == [(1, 17)] * 2


def test_a_stream_s_first_batch_has_time_to_compile():
    """Which takes longer than the time limit, and is not part of it."""
    sampler = ProcessSampler(Clock(horizon=3), 1, workers=1, time_limit=4.0, attempts=1)
    policy = SlowToTrace(GaussianMLP(hidden=()).build(KEY, 1, Continuous(2)))
    with closing(RemoteStreams(sampler, 1, 4)) as streams:
        start = streams.start(policy, jnp.ones(()), KEY)
        _, rollout = streams.collect(policy, jnp.ones(()), start, KEY)
    assert rollout.rewards.shape == (1, 4)
