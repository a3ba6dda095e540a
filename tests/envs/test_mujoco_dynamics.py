import copy
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from surefoot.envs import Hopper, HopperParams, Walker2d, Walker2dParams
from surefoot.envs.mujoco.dynamics import multiplied

KEY = jax.random.key(0)
PAIRS = [(HopperParams(), Hopper()), (Walker2dParams(), Walker2d())]


def ones(family: Any, rows: int) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.ones_like, family.sample_tasks(KEY, rows))


def keys(rows: int) -> np.ndarray:
    """All rows begin alike."""
    return np.tile(np.array([0, 7], np.uint32), (rows, 1))


def play(family: Any, tasks: Any, rows: int, steps: int = 30) -> list[Any]:
    """The same actions in every row, from the same beginning."""
    simulator = family.simulator(threads=1)
    first = simulator.begin(keys(rows), tasks)
    generator = np.random.default_rng(0)
    actions = generator.uniform(-1, 1, (steps, 1, family.action_space.size)).repeat(rows, axis=1)
    outcomes = [simulator.step(np.arange(rows), action) for action in actions]
    simulator.close()
    return [first, *(x for outcome in outcomes for x in outcome)]


@pytest.mark.parametrize(("family", "plain"), PAIRS)
def test_what_they_are(family: Any, plain: Any):
    assert (family.horizon, family.spread, family.time_limit_ends_return) == (200, 3.0, True)
    assert family.action_space == plain.action_space
    assert family.observation_space == plain.observation_space


@pytest.mark.parametrize(("family", "plain"), PAIRS)
def test_a_task_of_ones_is_the_plain_body(family: Any, plain: Any):
    random = play(family, ones(family, 2), 2)
    for ours, theirs in zip(random, play(plain, jnp.zeros((2, 0)), 2), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_multipliers_are_powers_within_the_spread():
    family, n = HopperParams(), 3000
    tasks = family.sample_tasks(KEY, n)
    shapes = {"body_mass": (5,), "body_inertia": (5, 3), "dof_damping": (6,), "geom_friction": (5, 3)}
    assert {name: x.shape for name, x in tasks.items()} == {name: (n, *s) for name, s in shapes.items()}
    for name, x in tasks.items():
        powers = np.log(x) / np.log(1.3 if name == "dof_damping" else 1.5)
        assert -3.001 < powers.min() < -2.99
        assert 2.99 < powers.max() < 3.001
        assert abs(powers.mean()) < 4 * np.sqrt(3 / powers.size)  # a uniform variable on ±3 has variance 3
        first, second = powers.reshape(n, -1).T[:2]
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(n)
    assert max(x.max() for x in HopperParams(spread=1.0).sample_tasks(KEY, n).values()) <= 1.5


def test_tasks_are_drawn_in_programs_too():
    family = HopperParams()
    drawn = jax.jit(lambda key: family.sample_tasks(key, 3))(KEY)
    for ours, theirs in zip(
        jax.tree.leaves(drawn), jax.tree.leaves(family.sample_tasks(KEY, 3)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("name", ["body_mass", "body_inertia", "dof_damping", "geom_friction"])
def test_every_parameter_changes_the_motion_of_its_row_alone(name: str):
    family = Walker2dParams()
    tasks = ones(family, 3)
    tasks[name] = tasks[name].at[1].multiply(3.0)
    changed = play(family, tasks, 3, steps=60)
    for ours, theirs in zip(changed, play(family, ones(family, 3), 3, steps=60), strict=True):
        np.testing.assert_array_equal(ours[[0, 2]], theirs[[0, 2]])
    last = changed[-3]
    assert np.abs(last[1] - last[0]).max() > 1e-3


def test_a_heavier_body_is_moved_less():
    family = HopperParams()
    tasks = ones(family, 2)
    tasks["body_mass"] = tasks["body_mass"].at[1].multiply(5.0)
    tasks["body_inertia"] = tasks["body_inertia"].at[1].multiply(5.0)
    simulator = family.simulator(threads=1)
    simulator.begin(keys(2), tasks)
    before = simulator.snapshot(np.arange(2)).qvel
    simulator.step(np.arange(2), np.tile([0.0, 0.0, 1.0], (2, 1)))
    moved = np.abs(simulator.snapshot(np.arange(2)).qvel - before)[:, -1]
    assert 1.0 < moved[1] < 0.9 * moved[0]


def test_a_model_has_its_numbers_multiplied_and_the_base_has_not():
    family = HopperParams()
    before = family.model.body_mass.copy()
    tasks = {name: np.asarray(x) for name, x in family.sample_tasks(KEY, 2).items()}
    for row, model in enumerate(family.models(tasks, 2)):
        for name, x in tasks.items():
            np.testing.assert_array_equal(getattr(model, name), getattr(family.model, name) * x[row])
    np.testing.assert_array_equal(family.model.body_mass, before)


def test_what_follows_from_the_masses_is_derived_anew():
    base = copy.deepcopy(HopperParams().model)
    base.dof_armature[:] = 0  # inertia that is not the bodies', and is not multiplied
    base = multiplied(base, {})
    heavy = multiplied(base, {"body_mass": np.full(5, 4.0), "body_inertia": np.full((5, 3), 4.0)})
    np.testing.assert_allclose(heavy.body_subtreemass, 4 * base.body_subtreemass)
    np.testing.assert_allclose(heavy.dof_M0, 4 * base.dof_M0)
    np.testing.assert_allclose(heavy.body_invweight0, base.body_invweight0 / 4)
    np.testing.assert_allclose(heavy.dof_invweight0, base.dof_invweight0 / 4)


def test_a_copy_with_nothing_multiplied_is_the_model_in_every_number():
    base = HopperParams().model
    saved = [np.empty(mujoco.mj_sizeModel(base), np.uint8) for _ in range(2)]
    for model, buffer in zip((base, multiplied(base, {})), saved, strict=True):
        mujoco.mj_saveModel(model, None, buffer)
    np.testing.assert_array_equal(*saved)


def test_rows_of_one_task_share_its_model():
    family = HopperParams()
    tasks = {name: np.repeat(np.asarray(x), 3, axis=0) for name, x in family.sample_tasks(KEY, 2).items()}
    models = family.models(tasks, 6)
    assert models[0] is models[1] is models[2]
    assert models[3] is models[4] is models[5]
    assert models[0] is not models[3]
