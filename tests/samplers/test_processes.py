import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.checks import check_sampler
from surefoot.envs import AbstractFamily, Bandit, Gymnasium, HalfCheetahVel, Navigation2D
from surefoot.options import UserError
from surefoot.policies import GRU, CategoricalMLP, GaussianMLP
from surefoot.samplers import BatchedSampler, ProcessSampler, ScanSampler
from surefoot.types import Continuous, Rollout

KEY = jax.random.key(3)
ENV = Navigation2D(horizon=5)
EPISODES = 3


def sampler_of(env: AbstractFamily, workers: int = 1) -> ProcessSampler:
    return ProcessSampler(env, EPISODES, workers=workers, time_limit=60.0, attempts=2)


@pytest.fixture(scope="module")
def sampler() -> Iterator[ProcessSampler]:
    sampler = sampler_of(ENV, 2)
    yield sampler
    sampler.close()


def many(env: AbstractFamily, count: int, options: Any = None) -> tuple[Any, Any]:
    """Policies, all different, and tasks."""
    kind = GaussianMLP if isinstance(env.action_space, Continuous) else CategoricalMLP
    build = (options or kind(hidden=(4,))).build
    policies = [build(jax.random.key(i), env.observation_space, env.action_space) for i in range(count)]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *policies), env.sample_tasks(jax.random.key(9), count)


def row(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


def assert_same(got: Rollout, expected: Rollout) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def assert_close(got: Rollout, expected: Rollout) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_it_keeps_the_contract(sampler: ProcessSampler):
    assert check_sampler(sampler) == []


def test_rollouts_do_not_depend_on_how_many_workers_there_are_or_on_the_order(sampler: ProcessSampler):
    policies, tasks = many(ENV, 3)
    expected = sampler.sample(policies, tasks, KEY)
    for workers in (1, 3):
        other = sampler_of(ENV, workers)
        futures = [
            (i, other.submit(row(policies, i), tasks[i], jax.random.fold_in(KEY, i))) for i in (2, 0, 1)
        ]
        for i, future in futures:
            assert_same(future.result(), row(expected, i))
        other.close()


def test_rollouts_are_those_of_the_other_samplers(sampler: ProcessSampler):
    policies, tasks = many(ENV, 3)
    rollouts = sampler.sample(policies, tasks, KEY)
    assert_close(rollouts, ScanSampler(ENV, EPISODES).sample(policies, tasks, KEY))
    assert_close(rollouts, BatchedSampler(ENV, EPISODES, 1).sample(policies, tasks, KEY))
    here = BatchedSampler(ENV, EPISODES, 1).submit(row(policies, 1), tasks[1], jax.random.fold_in(KEY, 1))
    assert_same(row(rollouts, 1), here.result())


@pytest.mark.parametrize(
    ("env", "options"),
    [
        (Bandit(arms=3, horizon=4), GRU(units=3)),
        (HalfCheetahVel(horizon=4), None),
        (Gymnasium("support.careless_envs:Multiplied", time_limit=3), None),
    ],
    ids=["recurrent", "mujoco", "starts processes"],
)
def test_any_family_is_served(env: AbstractFamily, options: Any):
    """Gymnasium's too, as the tests of faults show."""
    policies, tasks = many(env, 2, options)
    with closing(sampler_of(env)) as sampler, closing(BatchedSampler(env, EPISODES, 1)) as batched:
        rollouts = sampler.sample(policies, tasks, KEY)
        for i in range(2):
            here = batched.submit(row(policies, i), row(tasks, i), jax.random.fold_in(KEY, i)).result()
            assert_same(row(rollouts, i), here)


def test_tasks_are_sampled_while_the_caller_goes_on(sampler: ProcessSampler):
    assert sampler.asynchronous
    policies, tasks = many(ENV, 3)

    async def all_of_them() -> list[Rollout]:
        futures = [sampler.submit(row(policies, i), tasks[i], KEY) for i in range(3)]
        assert not all(future.done() for future in futures)
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    assert len(asyncio.run(all_of_them())) == 3


def test_its_timeline_has_every_task(sampler: ProcessSampler):
    policies, tasks = many(ENV, 3)
    sampler.timeline.start()
    sampler.sample(policies, tasks, KEY, first=5)
    jobs, work = sampler.timeline.take()
    assert sorted((job.task, job.phase) for job in jobs) == [(5, None), (6, None), (7, None)]
    assert {job.worker for job in jobs} <= {0, 1}
    for job in jobs:
        times = [job.submitted, job.started, job.began, job.ended]
        assert times == sorted(times)
    assert work == []


def test_what_is_traced_is_not_sampled(sampler: ProcessSampler):
    policies, tasks = many(ENV, 3)
    form = jax.eval_shape(sampler.sample, policies, tasks, KEY)
    assert form.rewards.shape == (3, EPISODES, 5)
    _, form = jax.eval_shape(
        lambda *xs: sampler.collect(xs[0], xs[1], None, xs[2]), row(policies, 0), tasks[0], KEY
    )
    assert form.actions.shape == (EPISODES, 5, 2)


def test_an_environment_that_cannot_be_sent_is_refused():
    class Local(Navigation2D):
        pass

    with pytest.raises(UserError, match="The environment Local cannot be sent to another process"):
        sampler_of(Local())


def test_options_are_checked():
    options = {"workers": 1, "time_limit": 1.0, "attempts": 1}
    for option in options:
        with pytest.raises(UserError, match=f"{option.replace('_', '-')} is 0"):
            ProcessSampler(ENV, EPISODES, **{**options, option: type(options[option])(0)})
    with pytest.raises(UserError, match="episodes is 0"):
        ProcessSampler(ENV, 0, **options)
