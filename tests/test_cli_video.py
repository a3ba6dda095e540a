"""`surefoot video`, as it is typed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from surefoot import cli
from surefoot.envs import HalfCheetahVel, Navigation2D
from surefoot.envs.mujoco.rendering import find_backend
from surefoot.experiment import Config, preset
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.serialise import save_config
from surefoot.options import UserError
from surefoot.policies import GaussianMLP

pytest.importorskip("mujoco", reason="the extra mujoco is not installed")


def left_behind(path: Path, config: Config) -> Path:
    """A run that has not begun."""
    folder = RunFolder.create(path)
    save_config(config, folder.config)
    folder.save(compiled_initial_state(config))
    return path


SMALL = replace(
    preset("half-cheetah-vel/maml-trpo"), env=HalfCheetahVel(horizon=6), policy=GaussianMLP(hidden=(8,))
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_behind(tmp_path_factory.mktemp("cli") / "run", SMALL)


def test_files_are_made_and_named(trained: Path) -> None:
    """In a process of its own, where nothing but the command line has imported anything: what it leaves on
    standard error at its end would be seen."""
    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))
    options = ["--tasks", "2", "--steps", "1", "--episodes", "2", "--width", "240", "--height", "160"]
    command = [sys.executable, "-m", "surefoot", "video", str(trained), *options, "--inner.lr", "0.5"]
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    files = [trained / "videos" / f"adaptation.{kind}" for kind in ("mp4", "gif")]
    assert done.stdout.splitlines() == [f"video    {file}" for file in files]
    assert done.stderr == "adapting, sampling episodes and rendering …\n", (
        "no warnings, and no noise at the end"
    )
    assert files[0].read_bytes()[4:8] == b"ftyp"
    assert files[1].read_bytes().startswith(b"GIF89a")
    assert {file.name for file in (trained / "videos").iterdir()} == {file.name for file in files}


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        code = cli.run(["video", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    out, errors = capsys.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in errors
    return " ".join(errors.split())


def test_bad_input_is_one_clear_message(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Name a run folder" in refusal(capsys)
    assert "There is no run at no-run" in refusal(capsys, "no-run")
    assert "There is no run at no-run" in refusal(capsys, "--tasks", "2", "no-run")
    assert "Required options" in refusal(capsys, "--out", str(trained))
    assert "is not a run of surefoot" in refusal(capsys, str(tmp_path))
    assert "tasks is 0" in refusal(capsys, str(trained), "--tasks", "0")
    assert "--fps" in refusal(capsys, str(trained), "--fps", "3")
    monkeypatch.setenv("MUJOCO_GL", "disable")
    assert "MUJOCO_GL is 'disable'" in refusal(capsys, str(trained))


def test_what_has_no_body_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = left_behind(tmp_path / "run", replace(SMALL, env=Navigation2D()))
    message = refusal(capsys, str(run))
    assert "Navigation2D cannot be filmed" in message
    assert "adaptation.png" in message


def test_a_choice_that_cannot_draw_is_told_before_it_breaks_an_import(trained: Path) -> None:
    """MuJoCo reads MUJOCO_GL when it is imported, and fails with a traceback."""
    command = [sys.executable, "-m", "surefoot", "video", str(trained)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"MUJOCO_GL": "nothing"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: MUJOCO_GL is 'nothing'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(["video", "--help"])
    assert end.value.code == 0
    assert "--seconds" in capsys.readouterr().out
