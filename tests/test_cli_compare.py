"""`surefoot compare`, on run folders written by hand."""

import csv
import json
from pathlib import Path

import pytest

from support.finished_runs import write_run, write_seeds
from surefoot import cli
from surefoot.cli.comparing import _short
from surefoot.cli.tables import decimals

GOOD = {0: 30.0, 1: 32.0, 2: 31.0, 3: 34.0, 4: 29.0}
BAD = {0: 10.0, 1: 12.0, 2: 11.0, 3: 14.0, 4: 9.0}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.run(["compare", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_seeds(tmp_path / "good", "recall/ppo", GOOD)
    write_seeds(tmp_path / "bad", "recall/ppo", BAD, entropy_bonus=0.5)
    return tmp_path


def test_it_prints_tables_and_leaves_pictures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run(capsys, "good", "bad", "--out", "picture")
    assert (code, errors) == (0, "")
    assert "differs  entropy-bonus: " in out
    assert "worse" in out
    assert max(map(len, out.splitlines())) <= 80
    assert {path.name for path in (here / "picture").iterdir()} == {"comparison.png", "comparison.svg"}


def test_a_narrow_terminal_cuts_no_number(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {seed: score * 12345.678 for seed, score in GOOD.items()}
    write_seeds(here / "large", "recall/ppo", {seed: -x for seed, x in scores.items()}, entropy_bonus=0.1)
    write_seeds(here / "larger", "recall/ppo", scores, entropy_bonus=0.2)
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = run(capsys, "large", "larger", "--out", "picture")
    assert "…" not in out
    found = json.loads(run(capsys, "large", "larger", "--json")[1])["groups"][1]
    lines = [line.replace("│", "|").split("|") for line in out.splitlines() if "│" in line]
    columns = {
        "".join(cells).replace(" ", "") for cells in zip(*[x for x in lines if len(x) == 8], strict=True)
    }
    for number in (found["iqm"], *found["ci95"]):
        assert any(f"{number:.2f}" in column for column in columns)


def test_small_differences_are_told_apart(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, bonus, scale in (("small", 0.1, 1e-4), ("smaller", 0.2, 3e-4)):
        scores = {seed: score * scale for seed, score in GOOD.items()}
        write_seeds(here / name, "recall/ppo", scores, entropy_bonus=bonus)
    _, out, _ = run(capsys, "small", "smaller", "--out", "picture")
    assert "0.0031" in out
    assert "0.0093" in out


@pytest.mark.parametrize(
    ("steps", "shown"), [(999.0, "999"), (999_936.0, "1M"), (98_304.0, "98.3k"), (999_999_999.0, "1G")]
)
def test_steps_have_the_unit_of_the_rounded_number(steps: float, shown: str) -> None:
    assert _short(steps) == shown


@pytest.mark.parametrize(
    ("scales", "places"),
    [([], 2), ([0.0], 2), ([5.0, 100.0], 2), ([0.05], 3), ([3.0, 0.002], 4), ([1e-30], 8)],
)
def test_decimals_follow_the_smallest_difference(scales: list[float], places: int) -> None:
    assert decimals(scales) == places


def test_json_is_all_there_is_on_standard_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(here.rglob("*"))
    code, out, _ = run(capsys, "bad", "--against", "good", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["baseline"] == found["groups"][0]["label"]
    assert found["groups"][0]["scores"] == list(GOOD.values())
    against = found["groups"][1]["against_baseline"]
    assert against["difference"] == {"estimate": -20.0, "ci95": [-20.0, -20.0]}
    assert against["verdict"] == "worse"
    assert found["pictures"] == []
    assert set(here.rglob("*")) == before
    _, again, _ = run(capsys, "bad", "--against", "good", "--json")
    assert again == out


def test_csv_has_a_row_for_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "good", "bad", "--csv")
    assert code == 0
    first, second = csv.DictReader(out.splitlines())
    assert float(first["iqm"]) == pytest.approx((0.75 * 30 + 31 + 0.75 * 32) / 2.5)
    assert (first["verdict"], first["difference"]) == ("baseline", "")
    assert (second["verdict"], float(second["difference"])) == ("worse", -20)
    assert float(second["--entropy-bonus"]) == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Which runs?"),
        (["nothing"], "There is no run at nothing"),
        (["good", "alone"], "one seed"),
        (["good", "--json", "--csv"], "ask for one of them"),
        (["good", "bad", "--out", "good"], "exists already, and nothing is written over"),
        (["good", "--step", "2"], "step is 2"),
        (["good", "bad", "--seed", "-1"], "seed is -1; it must be 0 or more"),
        (["good", "--against", "bandit"], "different environments"),
        (["good", "--sed", "1"], "--sed"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    here: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds(here / "bandit", "bandit/trpo", GOOD)
    write_run(here / "alone", "recall/ppo", 0, [1.0], [[1.0]], episodes=3)
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    code, out, errors = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(errors.split())
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
