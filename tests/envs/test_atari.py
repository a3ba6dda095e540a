"""Atari's games, beside ale-py's own vector environment."""

import gymnasium
import jax
import numpy as np
import pytest
from PIL import Image

from surefoot.cli import training as cli
from surefoot.envs import Atari, atari
from surefoot.envs.gymnasium_simulator import seed_of
from surefoot.experiment import preset
from surefoot.options import UserError
from surefoot.types import Discrete

vector_env = pytest.importorskip("ale_py.vector_env")


def keys_of(seed: int, rows: int) -> np.ndarray:
    return np.array(jax.random.key_data(jax.random.split(jax.random.key(seed), rows)))


def actions_of(rows: int, steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 6, (steps, rows)).astype(np.int32)


@pytest.mark.parametrize("name", ["Pong-v5", "ALE/Pong-v5", "Pong", "pong"])
def test_a_game_has_several_names(name: str) -> None:
    assert Atari(name).action_space == Discrete(6)
    assert Atari(name, all_actions=True).action_space == Discrete(18)


def test_every_name_that_gymnasium_knows_is_a_game() -> None:
    gymnasium.register_envs(pytest.importorskip("ale_py"))
    names = [name for name in gymnasium.registry if name.startswith("ALE/")]
    assert len(names) > 100
    assert len({atari._rom(name) for name in names}) == len(names)


def test_an_unknown_game_is_one_message() -> None:
    with pytest.raises(UserError, match=r"no game 'Pomg-v5'. Did you mean 'pong'"):
        cli.command_train(["atari:Pomg-v5/ppo"])


def test_presets_name_the_game() -> None:
    config = preset("atari:MsPacman-v5/a2c")
    assert (config.preset, config.env) == ("atari:MsPacman-v5/a2c", Atari("MsPacman-v5"))
    assert preset("atari:Breakout-v5").preset == "atari:Breakout-v5/ppo"


def test_steps_are_those_of_ale() -> None:
    keys = keys_of(0, 3)
    simulator = Atari(sticky_actions=0.0).simulator(1)
    env = vector_env.AtariVectorEnv("pong", 3, repeat_action_probability=0.0, reward_clipping=False)
    expected, _ = env.reset(seed=np.array([seed_of(words) >> 1 for words in keys]))
    observed = simulator.begin(keys, None)
    assert observed.shape == (3, 84, 84, 4)
    np.testing.assert_array_equal(np.moveaxis(observed, -1, 1), expected)
    rewards = np.zeros(3)
    for actions in actions_of(3, 80):
        outcome, (expected, reward, terminated, truncated, _) = (
            simulator.step(np.arange(3), actions),
            env.step(actions),
        )
        np.testing.assert_array_equal(np.moveaxis(outcome.observations, -1, 1), expected)
        np.testing.assert_array_equal(outcome.rewards, reward)
        np.testing.assert_array_equal([outcome.terminated, outcome.truncated], [terminated, truncated])
        rewards += reward
    assert (rewards < 0).all(), "random play loses"
    simulator.close()
    env.close()


def test_an_episode_follows_from_its_key_alone() -> None:
    """Whatever is beside it, and whatever its row was before."""
    many, alone, (key,) = Atari().simulator(2), Atari().simulator(1), keys_of(7, 1)
    many.begin(keys_of(1, 4), None)
    for actions in actions_of(4, 20):
        many.step(np.arange(4), actions)
    first = many.renew(np.array([3, 2]), np.stack([key, keys_of(8, 1)[0]]))[0]
    np.testing.assert_array_equal(first, alone.begin(key[None], None)[0])
    for actions in actions_of(4, 40):
        beside, own = many.step(np.arange(4), actions), alone.step(np.arange(1), actions[3:])
        np.testing.assert_array_equal(beside.observations[3], own.observations[0])
    many.close()
    alone.close()


def test_saved_episodes_go_on_as_if_nothing_had_happened() -> None:
    """Rows have taken different numbers of steps, one of them none, with sticky actions."""
    simulator, other = Atari().simulator(2), Atari().simulator(1)
    simulator.begin(keys_of(0, 3), None)
    for time, actions in enumerate(actions_of(3, 60)):
        if time == 25:
            simulator.renew(np.array([1]), keys_of(5, 1))
        simulator.step(np.arange(3), actions)
    simulator.renew(np.array([2]), keys_of(6, 1))
    saved = simulator.save()
    assert saved[:, 2].tolist() == [60, 35, 0]
    other.restore(saved, None)
    np.testing.assert_array_equal(other.save(), saved)
    for actions in actions_of(3, 40):
        undisturbed, resumed = (each.step(np.arange(3), actions) for each in (simulator, other))
        jax.tree.map(np.testing.assert_array_equal, undisturbed, resumed)
    simulator.close()
    other.close()


@pytest.mark.parametrize(("options", "same"), [({"idle_frames": 0}, True), ({}, False)])
def test_an_episode_begins_with_a_random_number_of_idle_frames(options: dict, same: bool) -> None:
    """In Pong the picture would be the same after 30."""
    simulator = Atari("MsPacman-v5", sticky_actions=0.0, **options).simulator(1)
    observations = simulator.begin(keys_of(0, 4), None)
    simulator.close()
    assert bool((observations == observations[0]).all()) == same


def test_a_filmed_game_is_the_same_game_in_colour() -> None:
    keys, rows = keys_of(0, 2), np.arange(2)
    plain, filmed = Atari().simulator(1), Atari().rendering().simulator(1)
    np.testing.assert_array_equal(filmed.begin(keys, None), plain.begin(keys, None))
    for actions in actions_of(2, 30):
        seen, expected = filmed.step(rows, actions), plain.step(rows, actions)
        np.testing.assert_array_equal(seen.observations, expected.observations)
        np.testing.assert_array_equal(seen.rewards, expected.rewards)
    for picture, stacked in zip(filmed.pictures(rows), seen.observations, strict=True):
        assert (picture.shape, picture.dtype) == ((210, 160, 3), np.uint8)
        small = np.asarray(Image.fromarray(picture).convert("L").resize((84, 84), Image.Resampling.BOX))
        assert np.abs(small - stacked[..., -1].astype(float)).mean() < 2
    assert np.abs(np.diff(picture.astype(int), axis=-1)).max() > 50, "in colour"
    filmed.close()
    plain.close()


def test_options_reach_the_game() -> None:
    def play(**options: object) -> tuple[np.ndarray, np.ndarray]:
        simulator = Atari("MsPacman-v5", sticky_actions=0.0, **options).simulator(1)
        simulator.begin(keys_of(0, 2), None)
        outcomes = [simulator.step(np.arange(2), actions) for actions in actions_of(2, 400)]
        simulator.close()
        return np.array([x.rewards for x in outcomes]), np.array([x.terminated for x in outcomes])

    scores, ends = play()
    signs, _ = play(clip_rewards=True)
    assert set(np.unique(scores)) >= {0.0, 10.0}
    assert set(np.unique(signs)) == {0.0, 1.0}
    first = int(play(life_ends_episode=True)[1][:, 0].argmax())
    assert 0 < first < (int(ends[:, 0].argmax()) or len(ends))
