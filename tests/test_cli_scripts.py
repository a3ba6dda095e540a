"""`surefoot train` for programs: `--json`, `--quiet` and the exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import surefoot
from surefoot import cli
from surefoot.experiment.metrics import read_metrics

SMALL = ["--episodes", "4", "--iterations", "2", "--evaluation.tasks", "2", "--evaluation.episodes", "4"]
LOUD = """
import os
import jax.numpy as jnp
from surefoot.envs import Bandit, Step


class Loud(Bandit):
    def step(self, key, state, action, task):
        print("from Python")
        os.write(1, b"from elsewhere")
        return super().step(key, state, action, task)


class Broken(Bandit):
    def step(self, key, state, action, task):
        step = super().step(key, state, action, task)
        return Step(step.state, step.observation, jnp.full_like(step.reward, jnp.nan), step.terminated)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    monkeypatch.chdir(tmp_path)


def test_one_object_is_all_there_is_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "bandit/trpo", *SMALL, "--env", "loud:Loud", "--out", "run", "--json"]
    assert cli.run(arguments) == 0
    out, errors = capfd.readouterr()
    assert "from Python" in errors
    assert "from elsewhere" in errors
    assert "iteration 2/2" in errors
    found = json.loads(out)
    assert (found["folder"], found["run"], found["status"]) == ("run", "run", "complete")
    assert found["metrics"] == read_metrics(Path("run/metrics.jsonl"))[-1]
    assert found["evaluation"] == json.loads(Path("run/evaluation.json").read_text())


def test_quiet_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Of a seed that fails it says so in the object and by the exit code."""
    arguments = ["train", "bandit/trpo", *SMALL, "--out", "many", "--seeds", "2", "--json", "--quiet"]
    assert cli.run(arguments) == 0
    out, errors = capfd.readouterr()
    assert errors == ""
    found = json.loads(out)
    assert [run["run"] for run in found["runs"]] == ["many/seed000", "many/seed001"]
    assert found["summary"] == json.loads(Path("many/seeds.json").read_text())
    assert len(surefoot.read_metrics("many")) >= 4
    arguments = ["train", "bandit/trpo", *SMALL, "--env", "loud:Broken", "--out", "bad", "--seeds", "2"]
    assert cli.run([*arguments, "--json", "--quiet"]) == 1
    out, errors = capfd.readouterr()
    assert errors == ""
    found = json.loads(out)
    assert (found["status"], found["summary"]) == ("failed", None)


def test_quiet_alone_prints_the_results(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "bandit/trpo", *SMALL, "--out", "run", "--quiet"]) == 0
    out, errors = capfd.readouterr()
    assert errors == ""
    assert "run      run" in out
    assert "┃ step" not in out, "the only step of a policy that does not adapt is no column"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_run_that_fails_is_exit_code_1(more: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "bandit/trpo", *SMALL, "--env", "loud:Broken", "--out", "run", "--quiet", *more]
    assert cli.run(arguments) == 1
    out, errors = capfd.readouterr()
    assert "training stopped" in errors
    if more:
        assert json.loads(out)["status"] == "failed"
    else:
        assert out == ""


def test_what_a_module_prints_when_it_is_imported_or_made_is_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chatty.py").write_text(
        "import loud\nprint('importing')\n\n\nclass Chatty(loud.Loud):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "bandit/trpo", *SMALL, "--env", "chatty:Chatty", "--out", "run", "--json"]
    assert cli.run(arguments) == 0
    assert json.loads(capfd.readouterr().out)["status"] == "complete"
    assert cli.run(["evaluate", "run", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["iteration"] == 2


def test_an_exception_in_a_part_of_the_user_s_own_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_rule.py").write_text(
        "from dataclasses import dataclass\n"
        "from surefoot.rules import GradientStep\n"
        "@dataclass(frozen=True)\n"
        "class Fails(GradientStep):\n"
        "    def step(self, objective, policy, batch, state):\n"
        "        return {}['nothing']\n"
    )
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "bandit/trpo", *SMALL, "--rule", "my_rule:Fails", "--out", "run"]) == 2
    errors = capfd.readouterr().err
    assert "KeyError" in errors
    assert "my_rule.py:6" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("closed", ["1", "2", "0); os.close(1", "0); os.close(1); os.close(2"])
def test_a_closed_output_is_no_error(closed: str) -> None:
    code = f"import os, sys; os.close({closed}); os.execv(sys.executable, [sys.executable, '-c', RUN])"
    run = "import sys; sys.argv = ['surefoot', '--version']; from surefoot.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("RUN", repr(run))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
