"""A run's folder: what is in it, and what is not."""

from pathlib import Path

import equinox as eqx
import pytest

from surefoot.experiment import load
from surefoot.experiment.folder import RunFolder, must_be_new
from surefoot.experiment.metrics import MetricsWriter, read_metrics
from surefoot.experiment.run import Run
from surefoot.options import UserError


def test_the_latest_checkpoint_is_that_of_the_last_iteration(tmp_path: Path) -> None:
    """Names have six digits or more."""
    folder = RunFolder.create(tmp_path / "run")
    with pytest.raises(UserError, match="holds no checkpoint"):
        folder.latest_checkpoint()
    for iteration in (0, 999990, 1000000):
        folder.checkpoint(iteration).touch()
    folder.checkpoint(0).with_name("mine.ckpt").touch()
    assert folder.latest_checkpoint() == folder.checkpoint(1000000)


@pytest.mark.parametrize("inside", [".", "checkpoints", "tensorboard"])
def test_a_checkpoint_is_found_from_wherever_it_is_named(
    inside: str, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.folder.path / inside)
    name = {".": "checkpoints/", "checkpoints": "", "tensorboard": "../checkpoints/"}[inside] + "000002.ckpt"
    found = load(Path(name))
    assert (found.iteration, found.config) == (2, trained.config)
    assert eqx.tree_equal(found.state, load(trained.folder.checkpoint(2)).state)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/run", "x" * 300 + "/checkpoints/000001.ckpt"])
def test_a_name_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There can be no run folder .*File name too long"):
        must_be_new(tmp_path / name)
    with pytest.raises(UserError, match=r"There is no run at .*File name too long"):
        load(tmp_path / name)


ROWS = [{"iteration": 1, "loss": 0.5}, {"iteration": 2, "loss": None}]
LINES = b'{"iteration": 1, "loss": 0.5}\n{"iteration": 2, "loss": null}\n'


@pytest.mark.parametrize("last", [b"", b'{"iter', b"\xff\xfe\n", b"{}\n", b"3", b"\x00" * 40])
def test_a_last_line_that_was_cut_short_is_left_out(last: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + last)
    assert read_metrics(path) == ROWS
    with MetricsWriter(tmp_path, 1) as writer:
        writer.write(2, {"loss": 0.25})
    assert read_metrics(path) == [ROWS[0], {"iteration": 2, "loss": 0.25}]


@pytest.mark.parametrize("number", [b"3", b"5", b"4.0", b"true", b'"4"'])
def test_iterations_follow_one_another(number: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration": 3}\n{"iteration": %s}\n{"iteration": 5}\n' % number)
    with pytest.raises(UserError, match="its line 2 does not hold the metrics of the next iteration"):
        read_metrics(path)


@pytest.mark.parametrize("line", [b'{"iter', b"\xff\xfe", b"{}", b"[1]"])
def test_a_damaged_line_is_named_and_nothing_after_it_is_lost(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + b"\n" + LINES)
    with pytest.raises(UserError, match="its line 1 does not hold the metrics of the next"):
        read_metrics(path)
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        MetricsWriter(tmp_path, 2)
    assert path.read_bytes() == line + b"\n" + LINES
