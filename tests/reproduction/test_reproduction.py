"""Reproductions of a table that takes seconds, and the published ones as data."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import pytest

from support.dense import assert_same
from support.small import SMALL
from surefoot import cli
from surefoot.algorithms import MAML
from surefoot.cli import reproducing
from surefoot.envs import Bandit
from surefoot.experiment import Config, Learner, load, train
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.training import ManyOutcome
from surefoot.options import UserError
from surefoot.reference import Random
from surefoot.reproduction import TABLES, Agent, PublishedTable, Row, reproduce, running
from surefoot.reproduction.summary import draw_reproduction, summarise_table

TINY = PublishedTable(
    "A table that takes seconds",
    "nobody (2026), table 1",
    "total reward of a trial",
    (
        Row("Learned ²", SMALL, (-1.0,)),
        Row("random", Agent(Random(), Bandit(arms=2, horizon=4), 1, problems=8), (2.0,)),
    ),
    "Everything is small.",
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "tiny", TINY)


def files(out: Path) -> dict[str, int]:
    """When each file of the runs was written."""
    return {
        str(path): path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".jsonl", ".ckpt")
    }


def test_our_figures_stand_beside_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.run(["reproduce", "tiny", "--seeds", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.replace(str(out), "OUT").splitlines())) <= 80
    for text in (
        "Learned ²",
        "random",
        "nobody (2026), table 1",
        "95% interval",
        "hours",
        "mean of 2",
    ):
        assert text in shown
    assert "QUICK" not in shown
    summary = json.loads((out / "reproduce.json").read_text())
    assert ("commit" in shown) == bool(summary["commits"]), "none where the library is not in a repository"
    learned, random = summary["rows"]
    assert (learned["method"], learned["published"], len(learned["seeds"])) == ("Learned ²", -1.0, 2)
    # The total of a trial: of each run, the sum over its parts.
    returns = json.loads((out / "learned-2" / "seed001" / "evaluation.json").read_text())["returns"]
    assert learned["seeds"][1] == pytest.approx(returns[0]["mean"] * SMALL.evaluation.episodes, rel=1e-5)
    assert learned["ci95"][0] <= learned["mean"] <= learned["ci95"][1]
    assert 0 < random["mean"] < 4
    assert random["hours"] is None
    assert (out / "reproduce.png").stat().st_size > 1000


def test_a_method_whose_runs_all_failed_keeps_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = summarise_table(TINY, {"Learned ²": []}, {"random": [2.0]}, [tmp_path / "seed000"])
    assert [(row["method"], row["mean"], row["seeds"]) for row in summary["rows"]] == [
        ("Learned ²", None, []),
        ("random", 2.0, [2.0]),
    ]
    alone = {**summary, "rows": summary["rows"][:1], "quick": False}
    assert draw_reproduction(alone).startswith(b"\x89PNG")
    reproducing._print(alone, tmp_path)
    shown = " ".join(capsys.readouterr().out.split())
    assert "its loss or a parameter was not finite" in shown
    assert "Learned ²" in shown


def test_a_second_call_repeats_nothing_and_a_larger_one_adds_seeds(tmp_path: Path) -> None:
    first = reproduce("tiny", tmp_path, seeds=2)
    before = files(tmp_path)
    assert reproduce("tiny", tmp_path, seeds=2) == first
    assert files(tmp_path) == before
    more = reproduce("tiny", tmp_path, seeds=3)
    assert before.items() <= files(tmp_path).items()
    assert [row["seeds"][:2] for row in more["rows"]] == [row["seeds"] for row in first["rows"]]
    assert [len(row["seeds"]) for row in more["rows"]] == [3, 3]


def test_seeds_side_by_side_come_to_the_same(tmp_path: Path) -> None:
    alone = reproduce("tiny", tmp_path / "alone", seeds=2)
    together = reproduce("tiny", tmp_path / "together", seeds=2, together=True)
    for one, other in zip(alone["rows"], together["rows"], strict=True):
        assert one["seeds"] == pytest.approx(other["seeds"], rel=1e-3)


def test_what_a_killed_process_left_half_made_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "learned-2" / ".seed000.new").mkdir(parents=True)
    (tmp_path / "learned-2" / ".seed000.new" / "config.yaml").write_text("half")
    reproduce("tiny", tmp_path, seeds=1)
    assert [path.name for path in (tmp_path / "learned-2").iterdir()] == ["seed000"]


def test_a_run_that_was_interrupted_goes_on_to_the_same_end(tmp_path: Path) -> None:
    learner = Learner(replace(SMALL, seed=0)).train(2, progress=False)
    learner.save(tmp_path / "out" / "learned-2" / "seed000")
    reproduce("tiny", tmp_path / "out", seeds=1)
    alone = train(SMALL, tmp_path / "alone").run
    assert_same(load(tmp_path / "out" / "learned-2" / "seed000").state, alone.state)


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = ManyOutcome([], [], signal.SIGINT)
    monkeypatch.setattr(running, "go_on_many", lambda *_, **__: stopped)
    out = tmp_path / "out"
    assert cli.run(["reproduce", "tiny", "--quick", "--out", str(out)]) == 130
    assert f"surefoot reproduce tiny --quick --seeds 2 --out {out}" in capsys.readouterr().out


def test_a_quick_run_says_that_it_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.run(["reproduce", "tiny", "--quick", "--seeds", "1", "--out", str(out)]) == 0
    assert "QUICK RUN" in capsys.readouterr().out
    assert json.loads((out / "reproduce.json").read_text())["quick"] is True
    assert load(out / "learned-2" / "seed000").config.iterations == 2
    with pytest.raises(UserError, match=r"holds `surefoot reproduce tiny --quick`; choose another --out"):
        reproduce("tiny", out, seeds=1)


def test_a_run_of_other_options_is_refused(tmp_path: Path) -> None:
    train(replace(SMALL, episodes=6), tmp_path / "learned-2" / "seed000")
    with pytest.raises(UserError, match="is a run with other options"):
        reproduce("tiny", tmp_path, seeds=1)


def test_a_wrong_name_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["reproduce", "rl2-bandit-10-5"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no published table 'rl2-bandit-10-5'. Did you mean 'rl2-bandits-10-5'?" in said
    assert not Path("reproduce").exists()


def test_the_list_has_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list", "reproduce"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in TABLES)
    assert max(map(len, shown.splitlines())) <= 80


CONFIGS: dict[str, Any] = {
    f"{name}-{row.method}": (table, row)
    for name, table in TABLES.items()
    for row in table.rows
    if isinstance(row.entry, Config)
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_table_s_runs_are_rated_as_it_says(name: str) -> None:
    table, row = CONFIGS[name]
    config = row.entry
    figures = 1 if table.quantity == "total reward of a trial" else config.evaluation.steps + 1
    assert len(row.published) in (0, figures)
    if table.quantity == "mean return":
        return
    assert config.evaluation.tasks == 1000
    parts = config.evaluation.steps + 1
    agent = next(one.entry for one in table.rows if isinstance(one.entry, Agent))
    trial = parts * config.evaluation.episodes * config.env.horizon
    length = trial if isinstance(config.algorithm, MAML) else config.env.horizon
    assert length == agent.episodes * agent.env.horizon
    assert agent.problems == 1000


@pytest.mark.parametrize("name", CONFIGS)
def test_a_table_s_runs_fit_together(name: str) -> None:
    eqx.filter_eval_shape(compiled_initial_state, CONFIGS[name][1].entry)


def test_the_smallest_table_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "surefoot", "reproduce", "rl2-bandits-10-5", "--quick"]
    done = subprocess.run(
        [*command, "--seeds", "1"], capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "QUICK RUN" in done.stdout
    assert (tmp_path / "reproduce" / "rl2-bandits-10-5-quick" / "reproduce.json").exists()
