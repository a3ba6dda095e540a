"""A run's folder: what is in it, and what is not."""

import shutil
from contextlib import closing
from pathlib import Path

import equinox as eqx
import pytest

from surefoot.experiment import load
from surefoot.experiment.folder import RunFolder, locked, must_be_new
from surefoot.experiment.metrics import MetricsWriter, read_metrics
from surefoot.experiment.run import Run
from surefoot.experiment.serialise import load_config
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
    with pytest.raises(UserError, match=r"There can be nothing at .*File name too long"):
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
    with closing(MetricsWriter(tmp_path, 1)) as writer:
        writer.write({"iteration": 2, "loss": 0.25})
    assert read_metrics(path) == [ROWS[0], {"iteration": 2, "loss": 0.25}]


@pytest.mark.parametrize("number", [b"3", b"5", b"4.0", b"true", b'"4"'])
def test_iterations_follow_one_another(number: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration": 3}\n{"iteration": %s}\n{"iteration": 5}\n' % number)
    with pytest.raises(UserError, match="its line 2 does not hold the metrics of the next iteration"):
        read_metrics(path)


@pytest.mark.parametrize(
    "line",
    [
        *(b'{"iter', b"\xff\xfe", b"{}", b"[1]", b"[" * 100_000),
        *(b'{"iteration": 0, "loss": %s}' % value for value in (b'"1"', b"true", b"[1]", b"{}", b"NaN")),
    ],
)
def test_a_damaged_line_is_named_and_nothing_after_it_is_lost(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + b"\n" + LINES)
    with pytest.raises(UserError, match="its line 1 does not hold the metrics of the next"):
        read_metrics(path)
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        MetricsWriter(tmp_path, 2)
    assert path.read_bytes() == line + b"\n" + LINES


def test_metrics_that_end_before_the_checkpoint_are_no_beginning(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(LINES)
    with pytest.raises(UserError, match="ends at iteration 2, and the checkpoint is of iteration 3"):
        MetricsWriter(tmp_path, 3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == LINES
    (tmp_path / "metrics.jsonl").unlink()
    MetricsWriter(tmp_path, 3).close()


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> RunFolder:
    """A copy of the trained run, with checkpoints of the iterations 0, 2, 4 and 6."""
    shutil.copytree(trained.folder.path, tmp_path / "a copy")
    return RunFolder(tmp_path / "a copy")


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, None])
def test_a_damaged_checkpoint_is_named_and_the_last_sound_one_offered(
    content: bytes | None, copy: RunFolder
) -> None:
    for iteration in (6, 4):
        file = copy.checkpoint(iteration)
        file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    for name in (copy.path, copy.checkpoint(6), copy.checkpoint(4)):
        with pytest.raises(UserError) as caught:
            load(name)
        damaged = copy.checkpoint(4 if name == copy.checkpoint(4) else 6)
        assert str(damaged) in str(caught.value)
        assert str(caught.value).endswith(f"surefoot resume '{copy.checkpoint(2)}'")
    assert load(copy.checkpoint(2)).iteration == 2
    for iteration in (2, 0):
        copy.checkpoint(iteration).write_bytes(b"")
    with pytest.raises(UserError, match="There is no sound one before it; start the run again"):
        load(copy.path)


def test_a_checkpoint_is_bound_to_its_name(copy: RunFolder) -> None:
    copy.checkpoint(2).rename(copy.checkpoint(8))
    with pytest.raises(UserError, match=r"000008\.ckpt holds the state after 2 iterations, and its name"):
        load(copy.path)


def test_a_checkpoint_is_bound_to_its_run(copy: RunFolder, trained: Run) -> None:
    """The state of another seed has the same form; how long and how often it was written is no matter."""
    text = copy.config.read_text()
    copy.config.write_text(text.replace("iterations: 6", "iterations: 60"))
    assert load(copy.path).config.iterations == 60
    copy.config.write_text(text.replace("\nseed: 0", "\nseed: 1"))
    assert load_config(copy.config).seed == 1
    with pytest.raises(UserError, match="written under other options than those of the run"):
        load(copy.path)


def test_who_may_train_a_run_deletes_what_a_killed_process_left(copy: RunFolder) -> None:
    left_over = [copy.path / ".config.yaml.77.tmp", copy.path / "checkpoints" / ".000006.ckpt.1.tmp"]
    for path in left_over:
        path.write_bytes(b"half")
    mine = copy.path / "notes.tmp"
    mine.touch()
    with locked(copy):
        with pytest.raises(UserError, match="Another process is training"):
            locked(copy)
        assert [path.exists() for path in [*left_over, mine]] == [False, False, True]
