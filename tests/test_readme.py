"""What the README shows, runs."""

import re
import sys
from pathlib import Path

import pytest

from surefoot import cli

README = Path(__file__).parent.parent / "README.md"
SMALL = ["--tasks", "2", "--episodes", "2", "--iterations", "2", "--policy.hidden", "8"]
SMALL += ["--evaluation.tasks", "2", "--evaluation.episodes", "2"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, where a module of the user's own is not yet imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "reach", raising=False)
    return tmp_path


def test_learners_in_python(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With fewer iterations, tasks and episodes than it prints."""
    first, second = [block for block in blocks("python") if "Learner(" in block]
    names: dict = {}
    smaller = {"train(20": "train(1", "evaluate()": "evaluate(2, episodes=2, steps=1)", "tasks=20": "tasks=2"}
    smaller |= {"algorithm=maml)": "algorithm=maml, episodes=2)", '"navigation-2d/maml-trpo"': '"bandit"'}
    smaller |= {"deterministic=True)": "deterministic=True, episodes=2)"}
    for program in (first, second):
        for printed, run in smaller.items():
            program = program.replace(printed, run)
        exec(program, names)
    assert names["action"].shape == names["best"].shape == (2,)
    assert names["run"].iteration == 2, "one iteration in memory, one in the folder"
    assert names["adapted"](names["observation"]).mean.shape == (2,)
    assert "by the mode of the policy" in capsys.readouterr().out
    assert cli.run(["evaluate", "runs/mine", "--tasks", "2", "--episodes", "2", "--steps", "1"]) == 0


def test_the_two_ideas(here: Path) -> None:
    (program,) = [block for block in blocks("python") if "algorithm = " in block]
    exec(program, {})


def test_an_environment_of_your_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = [block for block in blocks("python") if "class Reach" in block]
    (here / "reach.py").write_text(program)
    assert cli.run(["check", "env", "reach.py:Reach"]) == 0
    assert "0 problems found" in capsys.readouterr().out
    assert cli.run(["train", "navigation-2d", "--env", "reach:Reach", *SMALL, "--out", "run"]) == 0


MINE = """
import gymnasium
from gymnasium.spaces import Box


class MyEnv(gymnasium.Env):
    observation_space = action_space = Box(-1.0, 1.0, (2,))
"""


def test_the_commands_it_prints_are_understood(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my_module.py").write_text(MINE)
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    commands = [line[1:] for line in lines if line and line[0] == "surefoot"]
    assert {"train", "resume", "evaluate", "list"} <= {command[0] for command in commands}
    for command in commands:
        with pytest.raises(SystemExit) as end:
            cli.run([*command, "--help"]) if command[0] != "list" else exit(cli.run(command))
        assert end.value.code == 0, command
