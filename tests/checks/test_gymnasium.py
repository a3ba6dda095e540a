"""What `surefoot check env` says of Gymnasium environments: what training would, before it."""

import gymnasium
import numpy as np
import pytest

from surefoot.checks import check_gymnasium
from surefoot.envs import Gymnasium
from surefoot.envs.gymnasium_spaces import flattened_parts

ODD = "support.careless_envs:"


def errors(name: str) -> str:
    return " ".join(
        str(problem) for problem in check_gymnasium(Gymnasium(name)) if problem.severity == "error"
    )


@pytest.mark.parametrize(
    "name",
    [
        "CartPole-v1",
        "Pendulum-v1",
        "FrozenLake-v1",
        ODD + "Sound",
        ODD + "limited",
        "support.gymnasium_envs:Goals",
    ],
)
def test_sound_environments_have_no_errors(name: str):
    assert errors(name) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (ODD + "ObservesNothingStated", "must state its `observation_space`"),
        (ODD + "Blind", "has no elements"),
        (ODD + "Exits", "`step` raised SystemExit: 0 at"),
        (ODD + "EndsOfMany", "gave the flag `terminated`"),
        (ODD + "SeesOutsideItsSpace", "an element of its space"),
        (ODD + "TasksOfText", "tasks are arrays of numbers"),
        (ODD + "Forgetful", "other observations, rewards or ends from step 0 on"),
        (ODD + "Raced", "other observations, rewards or ends from step 1 on"),
        ("NoSuchEnvironment-v0", "NoSuchEnvironment"),
    ],
)
def test_errors_are_those_of_training(name: str, said: str):
    assert said in errors(name)


def test_what_is_ours_is_not_warned_of():
    """Gymnasium's checker is given the environment with the wrapper of its registry."""
    assert not any("unwrapped" in problem.what for problem in check_gymnasium(Gymnasium("CartPole-v1")))


def test_what_gymnasium_only_warns_of_is_a_warning():
    problems = check_gymnasium(Gymnasium(ODD + "Sound"))
    assert {problem.severity for problem in problems} == {"warning"}
    assert any("states no time limit" in problem.what for problem in problems)


def test_what_is_flattened_is_said():
    stack = gymnasium.spaces.Box(0, 255, (2, 9, 9, 3), np.uint8)
    space = gymnasium.spaces.Dict({"stack": stack, "grid": gymnasium.spaces.Box(-1, 1, (3, 4))})
    assert list(flattened_parts(space, "seen")) == [("seen['grid']", (3, 4)), ("seen['stack']", (2, 9, 9, 3))]
    said = [problem.what for problem in check_gymnasium(Gymnasium("support.gymnasium_envs:Grid"))]
    assert "the observation, an array of shape (3, 4), is flattened to a vector of 12 numbers." in said
