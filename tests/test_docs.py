"""What the documentation says is there, is there; what its guide shows, runs."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from surefoot import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CHAPTERS = sorted(path.stem for path in (ROOT / "src/surefoot/theory").glob("[!_]*.py"))
GUIDE = (DOCS / "guides" / "write_your_own.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
SMALL = ["--iterations", "2", "--episodes", "2", "--policy.hidden", "8"]
SMALL += ["--evaluation.tasks", "2", "--evaluation.episodes", "2"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_of_the_theory_has_its_page(chapter: str) -> None:
    page = (DOCS / "theory" / f"{chapter}.md").read_text()
    assert f"surefoot.theory.{chapter}." in page
    assert re.search(r"`tests/theory/\w+\.py`", page)
    assert "## Reading" in page
    assert f"::: surefoot.theory.{chapter}\n" in (DOCS / "reference" / "theory.md").read_text()


def test_the_tests_that_are_named_exist() -> None:
    for page in DOCS.rglob("*.md"):
        for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text()):
            assert (ROOT / name).is_file(), f"{page} names {name}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the guide's files, whose modules are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []
    for name, program in re.findall(r'```python title="(\w+\.py)"\n(.*?)```', GUIDE, re.DOTALL):
        (tmp_path / name).write_text(program)
        names.append(Path(name).stem)
    for name in names:
        sys.modules.pop(name, None)
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


def test_the_guide_keeps_the_contracts(here: Path) -> None:
    programs = re.findall(r"^```python\n(.*?)```", GUIDE, re.DOTALL | re.MULTILINE)
    assert len(programs) == 2
    for program in programs:
        exec(program, {})


def test_many_runs_are_drawn_in_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        rows = [{"iteration": 1, "return": None}, {"iteration": 2, "return": 0.5}]
        (tmp_path / "runs" / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "guides/reading_a_run.md").read_text(), re.DOTALL)
    exec(program, {})
    assert (tmp_path / "runs.png").stat().st_size > 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guide_s_commands_work(here: Path, command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "surefoot"
    small: list[str] = []
    if arguments[0] == "train":
        small = [*SMALL, "--out", "run"] + (["--tasks", "2"] if "/" not in arguments[1] else [])
    assert cli.run([*arguments, *small]) == 0
