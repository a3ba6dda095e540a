"""What the documentation says is there, is there; what its guide shows, runs."""

import importlib
import importlib.util
import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from support.finished_runs import write_seeds
from surefoot import algorithms, baselines, cli, rules
from surefoot.experiment.presets import PRESETS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page for page in (DOCS / "theory").glob("*.md") if page.stem != "index")
CHAPTERS = sorted(path.stem for path in (ROOT / "src/surefoot/theory").glob("[!_]*.py"))
GUIDE = (DOCS / "guides" / "write_your_own.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
SMALL = ["--iterations", "2", "--episodes", "2", "--policy.hidden", "8"]
SMALL += ["--evaluation.tasks", "2", "--evaluation.episodes", "2", "--evaluation.steps", "1"]
METHODS = {
    algorithms: algorithms.AbstractAlgorithm,
    rules: rules.AbstractRule,
    baselines: baselines.AbstractBaseline,
}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_of_the_theory_has_its_page(chapter: str) -> None:
    page = (DOCS / "theory" / f"{chapter}.md").read_text()
    assert f"surefoot.theory.{chapter}." in page
    assert re.search(r"`tests/theory/\w+\.py`", page)
    assert "## Reading" in page
    assert f"::: surefoot.theory.{chapter}\n" in (DOCS / "reference" / "theory.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_chapter_has_the_same_form(page: Path) -> None:
    """A number, and at its end the code, the tests and the papers; it is in the navigation and the index."""
    text = page.read_text()
    number = re.match(r"# (\d+\.) .+\n", text)
    assert number
    assert re.search(rf'- "?{number[1]} .+: theory/{page.name}\n', (ROOT / "mkdocs.yml").read_text())
    assert f"]({page.name})" in (DOCS / "theory" / "index.md").read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[-2:] == ["In the code", "Reading"]
    code = text.split("## In the code")[1]
    assert "][surefoot." in code
    assert re.search(r"`tests/[\w/]+\.py`", code)


def test_the_tests_that_are_named_exist() -> None:
    for page in DOCS.rglob("*.md"):
        for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text()):
            assert (ROOT / name).is_file(), f"{page} names {name}"


@pytest.fixture(scope="module")
def index() -> str:
    """The page of the algorithms with its tables, as the site shows it."""
    spec = importlib.util.spec_from_file_location("docs_algorithms", DOCS / "_hooks" / "algorithms.py")
    assert spec is not None
    assert spec.loader is not None
    hook = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook.filled((DOCS / "algorithms.md").read_text())


def test_every_algorithm_rule_and_baseline_is_in_the_index(index: str) -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", index, re.DOTALL | re.MULTILINE))
    exported = [
        cls
        for package, base in METHODS.items()
        for cls in vars(package).values()
        if inspect.isclass(cls) and issubclass(cls, base) and not inspect.isabstract(cls)
    ]
    assert set(sections) == {cls.__name__ for cls in exported}
    for cls in exported:
        section = sections[cls.__name__]
        assert f"[{cls.__module__}.{cls.__name__}]" in section
        presets = re.search(r"- Presets: (none; chosen with `--[\w.]+ [\w-]+`|`[\w-]+/[\w-]+`)", section)
        assert presets, f"{cls.__name__} has no preset and no reason"
        assert re.search(r"- Tests: `tests/", section), f"no test names {cls.__name__}"


def test_the_index_has_a_row_for_each_method(index: str) -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", index, re.MULTILINE)
    assert rows == list(dict.fromkeys(name.split("/")[1] for name in PRESETS))


def test_what_the_index_links_to_exists(index: str) -> None:
    for name in set(re.findall(r"\]\[([\w.]+)\]", index)):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    for page in set(re.findall(r"\]\(([\w/]+)\.md", index)):
        assert (ROOT / f"{page}.py").is_file() or (DOCS / f"{page}.md").is_file(), page
    for test in set(re.findall(r"`(tests/[\w/]+\.py)`", index)):
        assert (ROOT / test).is_file(), test
    for preset in set(re.findall(r"(?:Presets: |, |\| )`([\w-]+/[\w-]+)`", index)):
        assert preset in PRESETS


def test_the_glossary_is_in_order_and_has_every_metric() -> None:
    glossary = (DOCS / "glossary.md").read_text()
    *terms, symbols = re.findall(r"^## (.+)$", glossary, re.MULTILINE)
    assert symbols == "Symbols"
    assert terms == sorted(terms, key=lambda term: re.sub(r"[^a-z0-9]", "", term.lower()))
    table = (DOCS / "guides" / "reading_a_run.md").read_text().split("## Metrics")[1].split("\n## ")[0]
    for names in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE):
        for name in re.findall(r"`\w+`", names):
            assert name in glossary, f"the glossary lacks the metric {name}"


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
    guide = (DOCS / "guides/reading_a_run.md").read_text()
    (program,) = [text for text in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "plt" in text]
    exec(program, {})
    assert (tmp_path / "runs.png").stat().st_size > 0


def test_the_guide_to_evidence_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_seeds(tmp_path / "runs" / "ppo", "recall/ppo", {0: 1.0, 1: 2.0})
    statistics, metrics = re.findall(
        r"```python\n(.*?)```", (DOCS / "guides/evidence.md").read_text(), re.DOTALL
    )
    exec(statistics, {})
    assert capsys.readouterr().out.count("…") == 3
    exec(metrics, {})
    assert float(capsys.readouterr().out) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guide_s_commands_work(here: Path, command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "surefoot"
    small: list[str] = []
    if arguments[0] == "train":
        meta = [] if "/" in arguments[1] else ["--tasks", "2", "--chunk", "2"]
        small = [*SMALL, *meta, "--out", "run"]
    assert cli.run([*arguments, *small]) == 0


def test_the_program_with_futures_prints_the_events_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "guides" / "asynchronous_sampling.md").read_text()
    (program,) = re.findall(r'```python title="events.py"\n(.*?)```', text, re.DOTALL)
    with jax.numpy_dtype_promotion("standard"):  # as in a program of one's own
        exec(program, {"__name__": "__main__"})
    waited, awaited = (part.splitlines() for part in capsys.readouterr().out.split("\n\n"))
    assert sorted(waited) == sorted(awaited)
    for lines in (waited, awaited):
        for task in range(3):
            events = [line.split(": ", 1)[1] for line in lines if line.startswith(f"task {task}")]
            *before, last = events
            assert before == [
                "train episodes: submitted",
                "train episodes: arrived; adapts",
                "valid episodes: submitted",
            ]
            assert last.startswith("valid episodes: arrived, mean return -")
