import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.probes import Target
from support.small import SMALL
from surefoot.algorithms import MAML
from surefoot.experiment import Config, Evaluation, train
from surefoot.experiment.many import train_seeds
from surefoot.experiment.metrics import read_metrics
from surefoot.experiment.run import Run
from surefoot.report import finish, finish_seeds
from surefoot.rules import GradientStep, OptaxStep


def small(**changes: object) -> Config:
    adapting = {"env": Target(spread=0.5), "evaluation": Evaluation(tasks=2, episodes=4, steps=3)}
    return replace(SMALL, **{**adapting, "iterations": 2, "preset": "probe/vpg", **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return train_seeds(small(seed=5), 3, tmp_path_factory.mktemp("seeds") / "out").runs


def picture(path: Path) -> bytes:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return content


def test_a_policy_that_does_not_adapt_is_only_judged(runs: list[Run]) -> None:
    result, mode = finish(runs[0])
    assert result.returns.shape == (1, 1), "its own task without adaptation, whatever the options say"
    folder = runs[0].folder
    written = json.loads(folder.evaluation.read_text())
    assert written == {**result.summary(), "deterministic": mode.summary()["returns"]}
    assert mode.options.deterministic
    assert runs[0].picture == folder.path / "learning.png"
    picture(runs[0].picture)
    assert not (folder.path / "adaptation.png").exists()


def test_a_policy_that_adapts_is_judged_after_every_step(tmp_path: Path) -> None:
    meta = MAML(inner=GradientStep(lr=0.1), outer=OptaxStep(lr=0.1), tasks=2)
    run = train(small(algorithm=meta), tmp_path / "run").run
    assert [result.returns.shape for result in finish(run)] == [(4, 2), (4, 2)]
    assert run.picture == tmp_path / "run" / "adaptation.png"
    picture(run.picture)


def test_seeds_are_summarised(runs: list[Run]) -> None:
    out = runs[0].folder.path.parent
    summary = finish_seeds(runs, out)
    assert json.loads((out / "seeds.json").read_text()) == summary
    picture(out / "seeds.png")
    assert summary["preset"] == "probe/vpg"
    assert summary["seeds"] == [5, 6, 7]
    assert summary["iterations"] == [2, 2, 2]
    alone = [json.loads(run.folder.evaluation.read_text())["returns"][-1]["mean"] for run in runs]
    (only,) = summary["returns"]
    assert (only["step"], only["seeds"]) == (0, alone)
    assert only["mean"] == pytest.approx(np.mean(alone))
    assert only["iqm"] == pytest.approx(np.sort(alone) @ [1 / 6, 2 / 3, 1 / 6])
    assert only["standard_deviation"] == pytest.approx(np.std(alone, ddof=1))
    low, high = only["ci95"]
    assert low < only["iqm"] < high
    for run in runs:
        picture(run.picture)


def test_of_one_seed_nobody_knows_the_spread(runs: list[Run], tmp_path: Path) -> None:
    summary = finish_seeds(runs[:1], tmp_path)
    (only,) = summary["returns"]
    assert (only["ci95"], only["standard_deviation"]) == (None, None)
    assert only["iqm"] == only["mean"] == only["seeds"][0]
    picture(tmp_path / "seeds.png")
    assert json.loads((tmp_path / "seeds.json").read_text()) == summary


def test_seeds_that_adapt_are_summarised_after_every_step(tmp_path: Path) -> None:
    meta = MAML(inner=GradientStep(lr=0.1), outer=OptaxStep(lr=0.1), tasks=2)
    runs = train_seeds(small(algorithm=meta), 2, tmp_path / "out").runs
    summary = finish_seeds(runs, tmp_path / "out")
    assert [row["step"] for row in summary["returns"]] == [0, 1, 2, 3]
    alone = [json.loads(run.folder.evaluation.read_text())["returns"] for run in runs]
    for step, row in enumerate(summary["returns"]):
        assert row["seeds"] == [rows[step]["mean"] for rows in alone]
    picture(tmp_path / "out" / "seeds.png")
    for run in runs:
        metrics = read_metrics(run.folder.metrics)
        # Two tasks, two phases, four episodes of one step.
        assert [row["steps"] for row in metrics] == [16, 32]
        assert all(row["steps_per_second"] == pytest.approx(16 / row["seconds"]) for row in metrics)
