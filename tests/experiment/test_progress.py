"""What a run prints while it trains."""

import io
import itertools
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from support.small import SMALL
from surefoot.experiment import Event, progress as module, train
from surefoot.experiment.progress import TrainingProgress

META = {"return_before": -40.12, "return_after": -20.33, "kl": 0.0098, "step_accepted": 1.0}
LARGE = {"return_before": -12345.67, "return_after": -11234.56, "kl": 0.0098, "step_accepted": 0.0}


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes from each question for the time to the next."""
    now = itertools.count(0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))


def shown(progress: TrainingProgress, width: int) -> str:
    """The live line as a terminal of that width shows it."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(progress.line(width))
    (line,) = capture.get().splitlines()
    assert len(line) <= width
    return line


def event(iteration: int, total: int, metrics: dict[str, float], **other: Any) -> Event:
    return Event(iteration, total, metrics, lambda: None, **other)


def halfway(metrics: dict[str, float], total: int = 100) -> TrainingProgress:
    progress = TrainingProgress(total, done=0)
    for iteration in range(1, total // 2 + 1):
        progress(event(iteration, total, metrics))
    return progress


def test_before_the_first_iteration_it_says_what_is_waited_for() -> None:
    progress = TrainingProgress(3906, done=0)
    line = shown(progress, 80)
    assert "iteration 0/3906 ━" in line
    assert re.search(r"━ \d+:\d\d elapsed, compiling the iteration$", line)


def test_at_80_columns_the_numbers_are_whole() -> None:
    line = shown(halfway(META), 80)
    assert line[2:].startswith("iteration 50/100, return -40.12 → -20.33, KL 0.0098, ")
    assert re.search(r"KL 0.0098, \d+:\d\d left, \d+:\d\d elapsed$", line)
    line = shown(halfway({"return": -40.12}), 80)
    assert line[2:].startswith("iteration 50/100 ━━━━━━━━")
    line = shown(halfway(LARGE, 3906), 80)
    assert line.endswith("iteration 1953/3906, return -12345.67 → -11234.56, KL 0.0098, step refused")


def test_a_wide_terminal_shows_everything() -> None:
    line = shown(halfway(LARGE), 160)
    assert "━" * 24 in line
    assert re.search(r"refused, \d+:\d\d left, \d+:\d\d elapsed, sampling and learning$", line)


@pytest.mark.parametrize("metrics", [META, LARGE, {"return": 1.0}, {}])
def test_every_field_is_shown_whole_or_not_at_all(
    metrics: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = halfway(metrics)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    fields = shown(progress, 200).split("━ ")[1].split(", ")
    for width in range(40, 200):
        count, *kept = re.split(r" ━+ |, ", shown(progress, width).strip()[2:].removesuffix(","))
        assert count.rstrip(" ━") == "iteration 50/100"
        assert kept == fields[: len(kept)]


def test_the_end_is_marked() -> None:
    progress = TrainingProgress(1, done=0)
    progress(event(1, 1, META))
    assert shown(progress, 80).startswith("✓ iteration 1/1 ━━━━━━")


def test_elsewhere_than_in_a_terminal_a_line_comes_every_so_often(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = TrainingProgress(100, done=0)
    for iteration in range(1, 101):
        progress(event(iteration, 100, META))
    progress.close()
    waiting, first, *lines = capsys.readouterr().err.splitlines()
    assert waiting == "compiling the iteration …"
    assert first.startswith("iteration 1/100, return")
    assert len(lines) == 20
    wanted = r"iteration 5/100, return -40\.12 → -20\.33, KL 0\.0098, \d+:\d\d left"
    assert re.fullmatch(wanted, lines[0])


def test_of_a_long_run_a_line_comes_every_minute(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TrainingProgress(100_000, done=0)
    for iteration in range(1, 601):
        progress(event(iteration, 100_000, META))
    progress.close()
    done = [int(line.split("/")[0].split()[-1]) for line in capsys.readouterr().err.splitlines()[1:]]
    assert done[0] == 1
    assert 8 <= len(done) <= 12


def test_in_a_terminal_the_line_stays_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    progress = TrainingProgress(2, done=0)
    progress(event(1, 2, LARGE))
    progress(event(2, 2, LARGE, failed=("seed 3",)))
    progress.close()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 2, "the line that stays and the last state of the live line"
    assert "seed 3 stops: its loss or a parameter is not finite.\n" in shown


def test_quiet_training_shows_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(replace(SMALL, iterations=1), tmp_path / "run")
    assert capfd.readouterr() == ("", "")
