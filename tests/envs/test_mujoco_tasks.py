from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot import envs
from surefoot.envs import AntGoal, AntHeading, AntVel, HalfCheetahVel, Walker2dVel
from surefoot.options import UserError

KEY = jax.random.key(0)
N = 4000


@pytest.mark.parametrize("name", ["AntDir", "HalfCheetahDir", "SwimmerDir", "Walker2dDir"])
def test_directions_are_fair(name: str):
    tasks = getattr(envs, name)().sample_tasks(KEY, N)
    assert tasks.shape == (N,)
    np.testing.assert_array_equal(np.unique(tasks), [-1, 1])
    assert abs(tasks.mean()) < 4 / np.sqrt(N)


@pytest.mark.parametrize(
    ("family", "fastest"),
    [
        (AntVel(), 3.0),
        (Walker2dVel(), 2.0),
        (HalfCheetahVel(), 2.0),
        (AntVel(max_speed=0.5), 0.5),
    ],
)
def test_speeds_are_uniform(family: Any, fastest: float):
    tasks = family.sample_tasks(KEY, N)
    assert tasks.shape == (N,)
    assert 0 <= tasks.min() < 0.01 * fastest
    assert 0.99 * fastest < tasks.max() <= fastest
    assert abs(tasks.mean() - fastest / 2) < 4 * fastest / np.sqrt(12 * N)


@pytest.mark.parametrize("name", ["AntHeading", "HumanoidDir"])
def test_headings_are_uniform_on_the_circle(name: str):
    tasks = getattr(envs, name)().sample_tasks(KEY, N)
    assert tasks.shape == (N, 2)
    np.testing.assert_allclose(jnp.linalg.norm(tasks, axis=1), 1, rtol=1e-5)
    angles = jnp.arctan2(tasks[:, 1], tasks[:, 0])
    for k in (1, 2, 3):  # the first moments of a uniform angle are zero
        assert abs(np.exp(1j * k * np.asarray(angles)).mean()) < 4 / np.sqrt(N)


def test_goals_are_uniform_on_a_square():
    goals = AntGoal().sample_tasks(KEY, N)
    assert goals.shape == (N, 2)
    assert 2.97 < jnp.abs(goals).max() <= 3
    np.testing.assert_array_less(np.abs(goals.mean(0)), 4 * np.sqrt(3 / N))
    assert jnp.abs(AntGoal(goal_range=0.5).sample_tasks(KEY, N)).max() <= 0.5


def test_tasks_are_drawn_in_programs_too():
    family = AntHeading()
    drawn = jax.jit(lambda key: family.sample_tasks(key, 3))(KEY)
    np.testing.assert_allclose(drawn, family.sample_tasks(KEY, 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"horizon": 0}) for name in ("Hopper", "AntDir", "AntHeading", "HopperParams")),
        ("AntVel", {"max_speed": 0.0}),
        ("AntGoal", {"goal_range": -1.0}),
        ("AntGoal", {"horizon": 0}),
        ("AntVel", {"horizon": 0}),
        ("Walker2dParams", {"spread": -1.0}),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict):
    with pytest.raises(UserError, match="must be"):
        getattr(envs, name)(**options)
