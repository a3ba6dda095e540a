"""`MujocoVectorEnv` beside Gymnasium's own vector environment of the same task: seeds, options, actions,
pictures and wrappers. Later episodes start elsewhere, so that first ones are compared."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gymnasium
import gymnasium.wrappers.vector as wrappers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import SyncVectorEnv, VectorEnv

from surefoot.envs import HalfCheetahDir, InvertedPendulum, Walker2d
from surefoot.envs.mujoco.rendering import find_backend
from surefoot.envs.mujoco.vector import MujocoVectorEnv
from surefoot.options import UserError

ROWS = 3


@pytest.fixture
def ours() -> Iterator[MujocoVectorEnv]:
    with closing(MujocoVectorEnv(InvertedPendulum(), ROWS)) as env:
        yield env


@pytest.fixture
def theirs() -> Iterator[SyncVectorEnv]:
    with closing(SyncVectorEnv([lambda: gymnasium.make("InvertedPendulum-v5")] * ROWS)) as env:
        yield env


def steps_of(env: VectorEnv[Any, Any, Any], steps: int = 6) -> list[Any]:
    """Observations, rewards, ends and infos of small actions from a seed."""
    generator = np.random.default_rng(0)
    results = [env.reset(seed=3)]
    for _ in range(steps):
        results.append(env.step(generator.uniform(-0.2, 0.2, (ROWS, 1)).astype(np.float32)))
    return results


def assert_close(ours: Any, theirs: Any) -> None:
    """Equal within single precision, as trees of numbers with the same keys. Times are not compared."""
    jax.tree.map_with_path(
        lambda path, a, b: (
            None
            if path[-1:] == (jax.tree_util.DictKey("t"),)
            else np.testing.assert_allclose(
                np.asarray(a, float), np.asarray(b, float), rtol=1e-3, atol=1e-5, err_msg=str(path)
            )
        ),
        ours,
        theirs,
    )


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "ClipAction": wrappers.ClipAction,
    "ClipReward": lambda env: wrappers.ClipReward(env, 0.2, 0.5),
    "DictInfoToList": lambda env: wrappers.DictInfoToList(wrappers.RecordEpisodeStatistics(env)),
    "DtypeObservation": lambda env: wrappers.DtypeObservation(env, np.float64),
    "FlattenObservation": wrappers.FlattenObservation,
    "NormalizeObservation": wrappers.NormalizeObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "RescaleAction": lambda env: wrappers.RescaleAction(env, np.float32(-1), np.float32(1)),
    "ReshapeObservation": lambda env: wrappers.ReshapeObservation(env, (2, 2)),
    "TransformAction": lambda env: wrappers.TransformAction(env, np.negative),
    "TransformObservation": lambda env: wrappers.TransformObservation(env, np.sin),
    "TransformReward": lambda env: wrappers.TransformReward(env, np.exp),
    "VectorizeTransformAction": lambda env: wrappers.VectorizeTransformAction(
        env, gymnasium.wrappers.ClipAction
    ),
    "VectorizeTransformObservation": lambda env: wrappers.VectorizeTransformObservation(
        env, gymnasium.wrappers.FlattenObservation
    ),
    "VectorizeTransformReward": lambda env: wrappers.VectorizeTransformReward(
        env, gymnasium.wrappers.ClipReward, max_reward=0.5
    ),
}
OF_OTHER_OBSERVATIONS = {
    *("FilterObservation", "GrayscaleObservation", "RescaleObservation", "ResizeObservation"),
    *("HumanRendering", "RecordVideo"),
}
"""Wrappers for dictionaries, pictures and bounded observations; and those that show pictures."""


def test_no_wrapper_is_left_out():
    names = {
        name
        for name, value in vars(wrappers).items()
        if isinstance(value, type) and issubclass(value, gymnasium.vector.VectorWrapper)
    }
    assert names - OF_OTHER_OBSERVATIONS <= set(WRAPPERS)


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_does_what_it_does_on_gymnasiums_own(
    name: str, ours: MujocoVectorEnv, theirs: SyncVectorEnv
):
    a, b = WRAPPERS[name](ours), WRAPPERS[name](theirs)
    assert a.action_space == b.action_space
    assert a.observation_space.shape == b.observation_space.shape
    for mine, expected in zip(steps_of(a), steps_of(b), strict=True):
        if isinstance(mine[-1], list):
            assert len(mine[-1]) == ROWS
        else:  # Gymnasium's pendulum adds the parts of its reward
            known = {key: value for key, value in expected[-1].items() if key in mine[-1]}
            assert_close(mine[-1], known)
        assert_close(mine[:-1], expected[:-1])
        assert mine[0] in a.observation_space


def test_statistics_of_ended_episodes():
    with closing(MujocoVectorEnv(InvertedPendulum(horizon=5), ROWS)) as made:
        env = wrappers.RecordEpisodeStatistics(made)
        *_, last = steps_of(env, 5)
        assert last[3].all()
        np.testing.assert_array_equal(last[4]["episode"]["r"], [5] * ROWS)
        np.testing.assert_array_equal(last[4]["episode"]["l"], [5] * ROWS)


def test_a_list_of_seeds_may_have_none(ours: MujocoVectorEnv, theirs: SyncVectorEnv):
    """Rows with None continue with what their seeds give next, whatever the other rows do."""
    for env in (ours, theirs):
        first, _ = env.reset(seed=[5, 6, 7])
        second, _ = env.reset(seed=[None, 6, None])
        third, _ = env.reset()
        np.testing.assert_array_equal(second[1], first[1])
        again, _ = env.reset(seed=5)
        np.testing.assert_array_equal(again, first)
        np.testing.assert_array_equal(env.reset()[0][0], second[0])
        np.testing.assert_array_equal(env.reset()[0][0], third[0])
        assert env.np_random_seed == (5, 6, 7)
        assert not np.isclose(first[0], second[0]).any()


def test_without_a_seed_rows_have_seeds_of_their_own(ours: MujocoVectorEnv):
    assert len(set(ours.np_random_seed)) == ROWS
    before = ours.np_random_seed
    first, _ = ours.reset()
    assert ours.np_random_seed == before
    np.testing.assert_array_equal(ours.reset(seed=list(before))[0], first)


def test_a_mask_resets_some_rows(ours: MujocoVectorEnv, theirs: SyncVectorEnv):
    mask = np.array([True, False, True])
    results = []
    for env in (ours, theirs):
        # Gymnasium's has no observations of the others yet.
        with pytest.raises((ResetNeeded, ValueError), match="leave out reset_mask" if env is ours else None):
            env.reset(options={"reset_mask": mask.copy()})
        first, _ = env.reset(seed=0)
        stepped = env.step(np.ones((ROWS, 1), np.float32))[0]
        masked, _ = env.reset(seed=[0, 1, 2], options={"reset_mask": mask.copy()})
        np.testing.assert_array_equal(masked[mask], first[mask])
        np.testing.assert_array_equal(masked[~mask], stepped[~mask])
        results.append(env.step(np.ones((ROWS, 1), np.float32))[0])
    assert_close(*results)


def test_a_mask_starts_the_time_of_its_rows_again():
    with closing(MujocoVectorEnv(InvertedPendulum(horizon=3), 2)) as env:
        env.reset(seed=0)
        still = np.zeros((2, 1), np.float32)
        env.step(still)
        options = {"reset_mask": np.array([True, False])}
        env.reset(options=options)
        assert set(options) == {"reset_mask"}
        ends = [env.step(still)[3].tolist() for _ in range(3)]
        assert ends == [[False, False], [False, True], [True, False]]


def test_the_task_of_a_row_follows_from_its_seed():
    with closing(MujocoVectorEnv(HalfCheetahDir(), 16)) as env:
        env.reset(seed=0)
        drawn = np.asarray(env.tasks)
        env.reset(seed=list(range(16))[::-1])
        np.testing.assert_array_equal(env.tasks, drawn[::-1])
        env.reset(seed=[None] * 15 + [int(np.argmax(drawn != env.tasks[15]))])
        np.testing.assert_array_equal(env.tasks[:15], drawn[::-1][:15])
        assert env.tasks[15] == -drawn[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_mask": [True, False, True]}, "a NumPy array of 3 booleans"),
        ({"reset_mask": np.array([True, False])}, "a NumPy array of 3 booleans"),
        ({"reset_mask": np.array([1, 0, 1])}, "a NumPy array of 3 booleans"),
        ({"reset_mask": np.zeros(3, bool)}, "at least one of them true"),
        ({"mask": np.ones(3, bool)}, "a dictionary with tasks, reset_mask, or both"),
        (
            {"tasks": np.zeros((3, 0), np.float32), "reset_mask": np.array([True, False, True])},
            "for all rows at once",
        ),
        ({"tasks": "abc"}, "must be arrays"),
    ],
)
def test_wrong_options_are_refused_and_change_nothing(options: Any, message: str, ours: MujocoVectorEnv):
    first, _ = ours.reset(seed=0)
    with pytest.raises(UserError, match=message):
        ours.reset(seed=1, options=options)
    assert ours.np_random_seed == (0, 1, 2)
    np.testing.assert_array_equal(ours.reset(seed=0)[0], first)


ACTIONS: dict[str, Any] = {
    "one action for all": np.zeros(6),
    "one row": np.zeros((1, 6)),
    "a number": 0.5,
    "too many rows": np.zeros((4, 6)),
    "too few columns": np.zeros((3, 5)),
    "transposed": np.zeros((6, 3)),
    "an axis more": np.zeros((3, 6, 1)),
    "flat": np.zeros(18),
    "booleans": np.zeros((3, 6), bool),
    "complex": np.zeros((3, 6), complex),
    "texts": np.full((3, 6), "0"),
    "objects": np.full((3, 6), None),
    "ragged": [[0.0] * 6, [0.0] * 6, [0.0] * 5],
    "nothing": None,
    "a dictionary": {"action": np.zeros((3, 6))},
    "NaN": np.full((3, 6), np.nan),
}


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_wrong_actions_are_refused_and_change_nothing(actions: Any):
    with closing(MujocoVectorEnv(Walker2d(), 3)) as env, closing(MujocoVectorEnv(Walker2d(), 3)) as other:
        env.reset(seed=0)
        other.reset(seed=0)
        with pytest.raises(UserError, match="actions are"):
            env.step(actions)
        right = np.full((3, 6), 0.3)
        np.testing.assert_array_equal(env.step(right)[0], other.step(right)[0])


@pytest.mark.parametrize("convert", [np.float64, np.float16, jnp.asarray, np.ndarray.tolist, list])
def test_actions_may_be_whatever_becomes_numbers(convert: Any, ours: MujocoVectorEnv):
    actions = np.array([[0.5], [-1.0], [2.0]], np.float32)
    ours.reset(seed=0)
    expected = ours.step(actions)[0]
    ours.reset(seed=0)
    np.testing.assert_array_equal(ours.step(convert(actions))[0], expected)


def test_pictures():
    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))
    family = HalfCheetahDir()
    with closing(MujocoVectorEnv(family, 2, render_mode="rgb_array", width=64, height=48)) as env:
        assert env.metadata["render_modes"] == ["rgb_array"]
        assert env.metadata["render_fps"] == round(1 / family.dt) == 20
        with pytest.raises(ResetNeeded):
            env.render()
        env.reset(seed=[0, 0], options={"tasks": jnp.array([1.0, -1.0])})
        first = env.render()
        assert isinstance(first, tuple)
        assert [(frame.shape, frame.dtype) for frame in first] == [((48, 64, 3), np.uint8)] * 2
        assert (first[0] != first[1]).any()  # the arrows point in other directions
        np.testing.assert_array_equal(first, env.render())
        for _ in range(5):
            env.step(np.array([[1.0] * 6, [0.0] * 6]))
        assert all((now != before).any() for now, before in zip(env.render(), first, strict=True))
        env.reset(seed=[0, 0])
        np.testing.assert_array_equal(env.render(), first)


def test_pictures_that_were_not_asked_for_are_refused(ours: MujocoVectorEnv):
    ours.reset()
    with pytest.raises(UserError, match="render_mode='rgb_array'"):
        ours.render()
    for options in ({"render_mode": "human"}, {"width": 0}, {"height": 5000}):
        with pytest.raises(UserError, match="must be"):
            MujocoVectorEnv(InvertedPendulum(), 1, **options)


def test_spaces_are_gymnasiums(ours: MujocoVectorEnv, theirs: SyncVectorEnv):
    assert ours.action_space == theirs.action_space
    assert ours.single_action_space == theirs.single_action_space
    for space in (ours.observation_space, theirs.observation_space):
        assert isinstance(space, Box)
    assert ours.observation_space.shape == theirs.observation_space.shape
    ours.action_space.seed(1)
    theirs.action_space.seed(1)
    np.testing.assert_array_equal(ours.action_space.sample(), theirs.action_space.sample())
