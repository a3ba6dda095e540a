"""Observations of Gymnasium's environments: images, dictionaries, and what is outside a space."""

from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from surefoot.envs import Gymnasium
from surefoot.envs.gymnasium_spaces import arranger, membership, observation_space
from surefoot.experiment.presets import configure
from surefoot.experiment.training import train
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP
from surefoot.samplers import BatchedSampler
from surefoot.types import image, vector

HERE = "test_gymnasium_spaces:"
BYTES = {"low": 0, "high": 255, "dtype": np.uint8}


class Room(gymnasium.Env):
    """A camera with its channels first, a compass and a speed. Ends after three steps."""

    observation_space = spaces.Dict(
        {
            "camera": spaces.Box(shape=(3, 8, 9), **BYTES),
            "compass": spaces.Discrete(4),
            "motion": spaces.Tuple([spaces.Box(-1, 1, (2, 1))]),
        }
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.seen(), {}

    def seen(self) -> Any:
        camera = np.zeros((3, 8, 9), np.uint8)
        camera[1, 2, self.time] = 200
        return {"camera": camera, "compass": self.time, "motion": (np.full((2, 1), 0.5),)}

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.seen(), float(action), self.time == 3, False, {}


class Leaves(Room):
    def seen(self) -> Any:
        return super().seen() | {"motion": (np.full((2, 1), 1.0 + self.time),)}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.parametrize(
    ("space", "form"),
    [
        (spaces.Box(shape=(64, 64, 3), **BYTES), image(64, 64, 3)),
        (spaces.Box(shape=(4, 84, 84), **BYTES), image(84, 84, 4)),
        (spaces.Box(shape=(20, 30), **BYTES), image(20, 30, 1)),
        (spaces.Box(0, 1, (10, 10, 6), bool), image(10, 10, 6, np.float32)),
        (spaces.Box(-1, 1, (17, 8, 8)), image(8, 8, 17, np.float32)),
        (spaces.Box(-1, 1, (9, 12, 20)), image(12, 20, 9, np.float32)),
        (spaces.Box(-1, 1, (30, 20, 25)), image(30, 20, 25, np.float32)),
        (spaces.Box(-1, 1, (20, 30)), vector(600)),
        (spaces.Box(shape=(6, 6, 3), **BYTES), vector(108)),
        (spaces.Box(shape=(128,), **BYTES), vector(128)),
        (spaces.Box(-1, 1, ()), vector(1)),
        (spaces.MultiBinary(5), vector(5)),
        (
            Room.observation_space,
            {"camera": image(8, 9, 3), "compass": vector(4), "motion": (vector(2),)},
        ),
    ],
)
def test_the_form_of_a_space_is_that_of_its_elements(space: Any, form: Any):
    assert observation_space("Mine", space) == form
    arranged = arranger(space)(space.sample())
    assert jax.tree.map(np.shape, arranged) == jax.tree.map(lambda part: part.shape, form)
    assert membership(space)(space.sample())


@pytest.mark.parametrize(
    ("space", "given"),
    [
        (spaces.Box(-1, 1, (2,)), np.array([0.0, 1.1])),
        (spaces.Box(-1, 1, (2,)), np.zeros(3)),
        (spaces.Box(shape=(8, 8, 1), **BYTES), np.zeros((8, 8, 1))),
        (spaces.Box(shape=(8, 8, 1), **BYTES), np.full((8, 8, 1), 256)),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": 1}),
        (spaces.Dict({"a": spaces.Box(0, 1, (1,))}), {"a": np.array([-0.5])}),
        (spaces.Tuple([spaces.Discrete(2)]), (1, 1)),
        (spaces.Discrete(3), 3),
    ],
)
def test_what_is_outside_a_space_is_no_element(space: Any, given: Any):
    assert not membership(space)(given)


def test_rounding_beyond_a_bound_does_no_harm():
    space = spaces.Box(-8, 8, (1,), np.float32)
    assert membership(space)(np.array([np.nextafter(np.float32(8), np.float32(9))]))
    assert membership(space)(np.array([7], np.int64))


def test_a_rollout_keeps_the_parts_and_their_bytes():
    env = Gymnasium(HERE + "Room", time_limit=5)
    policy = CategoricalMLP(hidden=(3,)).build(jax.random.key(0), env.observation_space, env.action_space)
    rollout = BatchedSampler(env, 2, 1).submit(policy, jnp.zeros(0), jax.random.key(1)).result()
    seen = rollout.observations
    assert (seen["camera"].shape, seen["camera"].dtype) == ((2, 5, 8, 9, 3), jnp.uint8)
    np.testing.assert_array_equal(seen["camera"][0, :3, 2, :3, 1], 200 * np.eye(3))
    np.testing.assert_array_equal(seen["compass"][1, :3], np.eye(4)[:3])
    np.testing.assert_array_equal(seen["motion"][0][0, :3], 0.5)
    np.testing.assert_array_equal(rollout.next_observations["compass"][1, :3], np.eye(4)[1:4])
    expected = policy(seen).log_prob(rollout.actions)
    np.testing.assert_allclose(rollout.log_probs[:, :3], expected[:, :3], atol=1e-5)


def test_an_observation_outside_its_space_is_an_error_that_names_it():
    env = Gymnasium(HERE + "Leaves", time_limit=5)
    policy = CategoricalMLP(hidden=()).build(jax.random.key(0), env.observation_space, env.action_space)
    future = BatchedSampler(env, 1, 1).submit(policy, jnp.zeros(0), jax.random.key(1))
    with pytest.raises(UserError, match=r"`step` gave the observation .* an element of its space, Dict"):
        future.result()


def test_a_baseline_that_cannot_see_images_says_so_before_anything_runs(tmp_path: Path):
    config = configure(env=Gymnasium(HERE + "Room", time_limit=5), algorithm="maml-trpo")
    with pytest.raises(UserError, match="says nothing of an image"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
