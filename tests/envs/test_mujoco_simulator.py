"""What one row does depends on nothing else: rows, threads, being put away, steps that others take."""

from typing import Any

import jax
import numpy as np
import pytest

from surefoot.envs import AntDir, HopperParams, Walker2d
from surefoot.envs.mujoco import physics
from surefoot.envs.mujoco.simulator import number_of
from surefoot.envs.simulation import Outcome

FAMILIES = [Walker2d(), HopperParams(), AntDir()]
"""One that rolls out, one with a model for each row, one that reads MuJoCo's data."""
ROWS = 5


class Playing:
    """Some of the rows of one batch of episodes."""

    def __init__(self, family: Any, rows: list[int], threads: int = 1) -> None:
        self.family, self.rows, self.threads = family, np.array(rows), threads
        self.tasks = jax.tree.map(lambda x: x[self.rows], family.sample_tasks(jax.random.key(0), ROWS))
        self.simulator = family.simulator(threads)
        self.all = np.arange(len(rows))

    def begin(self) -> np.ndarray:
        return self.simulator.begin(self.keys(0), self.tasks)

    def keys(self, episode: int) -> np.ndarray:
        return np.array([[episode, row] for row in self.rows], np.uint32)

    def actions(self, time: int) -> np.ndarray:
        everyone = np.random.default_rng(time).uniform(-1, 1, (ROWS, self.family.action_space.size))
        return everyone[self.rows]

    def play(self, first: int, last: int) -> list[Outcome]:
        return [self.simulator.step(self.all, self.actions(time)) for time in range(first, last)]


def stacked(outcomes: list[Outcome]) -> list[np.ndarray]:
    """By what they tell: `[time row ...]`."""
    return [np.stack(x) for x in zip(*outcomes, strict=True)]


def equal(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rows", "threads"), [([3], 1), ([3, 0], 1), ([0, 1, 2, 3, 4], 3), ([4, 3], 4)])
def test_a_row_is_the_same_in_any_company_and_on_any_thread(
    family: Any, rows: list[int], threads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(physics, "_WAKING_SECONDS", -1.0)  # so few rows would not be divided
    reference, some = Playing(family, list(range(ROWS))), Playing(family, rows, threads)
    np.testing.assert_array_equal(some.begin(), reference.begin()[rows])
    ours, theirs = stacked(some.play(0, 25)), stacked(reference.play(0, 25))
    equal(ours, [x[:, rows] for x in theirs])
    some.simulator.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_that_come_and_go_change_nothing(family: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(physics, "_WAKING_SECONDS", -1.0)
    reference, some = (Playing(family, list(range(ROWS)), threads=threads) for threads in (1, 3))
    reference.begin()
    some.begin()
    outcomes: list[Outcome] = []
    for time, threads in enumerate([1, 3, 2, 1, 3]):
        some.simulator.use(threads)
        outcomes += some.play(4 * time, 4 * time + 4)
    equal(stacked(outcomes), stacked(reference.play(0, 20)))
    some.simulator.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_put_away_goes_on_as_if_it_had_not_been(family: Any):
    whole, parted = Playing(family, list(range(ROWS))), Playing(family, list(range(ROWS)))
    whole.begin()
    whole.play(0, 12)
    saved = whole.simulator.save()
    assert saved.shape == (ROWS, whole.simulator.words())
    assert saved.dtype == np.uint32
    saved.setflags(write=False)  # as JAX's arrays are
    parted.simulator.restore(saved, parted.tasks)
    equal(stacked(parted.play(12, 25)), stacked(whole.play(12, 25)))
    np.testing.assert_array_equal(parted.simulator.save(), whole.simulator.save())


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_are_not_stepped_stay_where_they_are(family: Any):
    playing = Playing(family, list(range(ROWS)))
    playing.begin()
    before = playing.simulator.save()
    stepped = np.array([3, 1])
    outcome = playing.simulator.step(stepped, playing.actions(0)[stepped])
    after = playing.simulator.save()
    stayed = np.setdiff1d(playing.all, stepped)
    np.testing.assert_array_equal(after[stayed], before[stayed])
    whole = Playing(family, list(range(ROWS)))
    whole.begin()
    equal(list(outcome), [x[stepped] for x in whole.play(0, 1)[0]])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_episode_follows_from_its_key_alone(family: Any):
    playing, fresh = Playing(family, list(range(ROWS))), Playing(family, list(range(ROWS)))
    playing.begin()
    playing.play(0, 5)
    again = np.array([4, 2])
    first = playing.simulator.renew(again, playing.keys(1)[again])
    np.testing.assert_array_equal(first, fresh.simulator.begin(fresh.keys(1), fresh.tasks)[again])
    outcome = playing.simulator.step(again, playing.actions(9)[again])
    equal(list(outcome), [x[again] for x in fresh.play(9, 10)[0]])


def test_actions_and_their_costs_are_clipped():
    playing, clipped = Playing(AntDir(), [0, 1]), Playing(AntDir(), [0, 1])
    playing.begin()
    clipped.begin()
    actions = 3 * playing.actions(0)
    ours = playing.simulator.step(playing.all, actions)
    equal(list(ours), list(clipped.simulator.step(clipped.all, np.clip(actions, -1, 1))))


def test_the_number_of_a_key_is_its_words():
    assert number_of(np.array([1, 2], np.uint32)) == 2**32 + 2
    assert number_of(np.array([0, 0, 5], np.uint32)) == 5
