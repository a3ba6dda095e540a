"""The page on families and their papers says of the families here what they are."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from surefoot import envs
from surefoot.envs.mujoco.family import AbstractMujocoFamily

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "families.md").read_text()


def rows(heading: str) -> Iterator[tuple[AbstractMujocoFamily, list[str]]]:
    """The families of each row of a table, and its other cells."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section
    for line in section[1].splitlines():
        names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", names) if line.startswith("| `") else ():
            yield getattr(envs, name)(), cells


@pytest.mark.parametrize("heading", ["Time", "Observation and start", "Reward and end"])
def test_every_family_with_a_paper_of_its_own_is_there(heading: str):
    assert {type(env).__name__ for env, _ in rows(heading)} == {
        *("HalfCheetahDir", "HalfCheetahVel", "AntDir", "AntVel", "AntGoal", "AntHeading", "Walker2dDir"),
        *("Walker2dVel", "Walker2dParams", "HopperParams", "HumanoidDir"),
    }


def test_intervals_and_horizons():
    for env, (interval, horizon, *_) in rows("Time"):
        assert (float(interval), int(horizon)) == (pytest.approx(1000 * env.dt), env.horizon), env


def test_observations_and_starts():
    for env, (observation, _, start, _) in rows("Observation and start"):
        if observation != "as above":
            assert int(observation.partition(":")[0]) == env.observation_space.shape[0], env
        if start != "as above":
            assert f"±{env.body.reset_noise:g}" in start
            assert ("normal" in start) == env.body.normal_velocities
