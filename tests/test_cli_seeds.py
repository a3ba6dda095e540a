"""`surefoot train --seeds` and `surefoot resume` of what it leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surefoot import cli
from surefoot.cli.seeds import print_seeds
from surefoot.cli.sweep import every_setting, random_settings, swept, take_sweeps
from surefoot.experiment import load, preset
from surefoot.experiment.metrics import read_metrics
from surefoot.report.seeds import summarise

ONE = preset("bandit/trpo")
SMALL = ["--episodes", "4", "--iterations", "2", "--evaluation.tasks", "2", "--evaluation.episodes", "4"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.run(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "runs" / "many"
    arguments = ["train", "bandit/trpo", *SMALL, "--seed", "3", "--seeds", "2", "--out", str(folder)]
    assert cli.run(arguments) == 0
    return folder


def test_every_seed_leaves_a_run_and_all_a_summary(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {"seed003", "seed004", "seeds.json", "seeds.png"}
    for seed in (3, 4):
        folder = trained / f"seed{seed:03d}"
        assert load(folder).config.seed == seed
        assert {"config.yaml", "metrics.jsonl", "evaluation.json", "learning.png"} <= {
            path.name for path in folder.iterdir()
        }
    assert json.loads((trained / "seeds.json").read_text())["seeds"] == [3, 4]


def test_resume_goes_on_with_all_of_them(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run(capsys, "resume", str(trained), "--iterations", "3")
    assert code == 0, errors
    assert "IQM      interquartile mean over seeds, with its 95% interval" in out
    assert str(trained / "seeds.png") in out
    for folder in (trained / "seed003", trained / "seed004"):
        assert load(folder).iteration == 3
        assert [row["iteration"] for row in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3]
    assert json.loads((trained / "seeds.json").read_text())["iterations"] == [3, 3]


def test_one_of_them_is_evaluated_like_any_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run(capsys, "evaluate", str(trained / "seed004"), "--json")
    assert code == 0, errors
    assert json.loads(out)["preset"] == "bandit/trpo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "bandit/trpo", "--seeds", "0"], "seeds is 0; it must be 1 or more"),
        (["train", "bandit/trpo", "--seeds", "two"], "--seeds"),
        (["train", "bandit/trpo", "--seeds", "2", "--seed", "4294967295"], "seed is 4294967296"),
        (
            ["train", "bandit/trpo", "--seeds", "2", "--policy", "gaussian-mlp"],
            "use --policy categorical-mlp",
        ),
        (["resume", "no-run", "--iterations", "3"], "There is no run at no-run"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, errors = run(capsys, *arguments)
    assert code == 2
    assert message in " ".join(errors.split())
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in trained.rglob("*") if path.is_file()}
    code, _, errors = run(capsys, "train", "bandit/trpo", *SMALL, "--seeds", "2", "--out", str(trained))
    assert code == 2
    assert "exists already" in errors
    assert {path for path in trained.rglob("*") if path.is_file()} == before


def test_a_sweep_of_switches_and_parts_has_every_combination() -> None:
    sweeps, rest = take_sweeps(["ppo", "--sweep.a.b", "true", "false", "--x", "1", "--sweep.rule=npg,trpo"])
    assert rest == ["ppo", "--x", "1"]
    settings = every_setting(sweeps)
    configs = swept(list(sweeps), settings, lambda words: replace(ONE, preset=" ".join(words)))
    assert [(name, config.preset) for name, config in configs.items()] == [
        ("a.b=true,rule=npg", "--a.b --rule npg"),
        ("a.b=true,rule=trpo", "--a.b --rule trpo"),
        ("a.b=false,rule=npg", "--a.no-b --rule npg"),
        ("a.b=false,rule=trpo", "--a.no-b --rule trpo"),
    ]


def test_a_value_of_several_numbers_is_quoted() -> None:
    sweeps, _ = take_sweeps(["--sweep.policy.hidden", "32", "64 64"])
    configs = swept(list(sweeps), every_setting(sweeps), lambda words: replace(ONE, preset=" ".join(words)))
    assert [(name, config.preset) for name, config in configs.items()] == [
        ("policy.hidden=32", "--policy.hidden 32"),
        ("policy.hidden=64_64", "--policy.hidden 64 64"),
    ]


def test_random_settings_lie_in_their_ranges_and_lists() -> None:
    sweeps = {"rate": ["1e-5..1e-1"], "clip": ["0.1..0.3"], "units": ["8..16"], "rule": ["npg", "trpo"]}
    settings = random_settings(sweeps, 400, seed=0)
    assert len(set(settings)) == 400
    rates, clips, units, rules = zip(*settings, strict=True)
    logarithms = np.log10(np.array(rates, float))
    assert -5 <= logarithms.min() < -4.8
    assert -1.2 < logarithms.max() <= -1
    assert abs(np.median(logarithms) + 3) < 0.3, "uniform in the logarithm"
    assert min(map(float, clips)) >= 0.1
    assert max(map(float, clips)) <= 0.3
    assert abs(np.mean(np.array(clips, float)) - 0.2) < 0.01, "uniform"
    assert set(map(int, units)) == set(range(8, 17)), "both ends"
    assert set(rules) == {"npg", "trpo"}
    assert random_settings(sweeps, 400, seed=0) == settings
    assert random_settings(sweeps, 400, seed=1) != settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep.rule.max-kl", "0.1..1"], "Add --sweep-random N"),
        (["--sweep-random", "2"], "Name the options: --sweep.NAME LOW..HIGH"),
        (["--sweep.rule.max-kl", "1..0.1", "--sweep-random", "2"], "the lower one first"),
        (["--sweep.rule.max-kl", "a..b", "--sweep-random", "2"], "two numbers"),
        (["--sweep.rule.max-kl", "0.1..1", "--sweep-random", "0"], "sweep-random is 0"),
        (["--sweep.rule.max-kl", "0.1", "1", "--sweep-random", "3"], "have only 2 settings"),
        (["--sweep.rule.max-kl"], "--sweep.rule.max-kl needs values"),
        (["--sweep.rule.max-kl", "0.1", "--sweep.rule.max-kl", "0.2"], "is there twice"),
        (["--sweep.rule.max-kl", "0.1", "1e-1"], "--rule.max-kl 1e-1 is there already"),
        (["--sweep.rule.max-kl", "0.1", "-1"], "max-kl is -1.0; it must be"),
        (["--sweep.rule.max-kll", "0.1"], "--rule.max-kll"),
        (["--sweep.env", "bandit", "recall"], "env cannot be swept"),
    ],
)
def test_wrong_sweeps_are_one_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, errors = run(capsys, "train", "bandit/trpo", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(errors.split())
    assert list(tmp_path.iterdir()) == []


BROKEN = """
import jax.numpy as jnp
from surefoot.envs import Bandit, Step


class Broken(Bandit):
    def step(self, key, state, action, task):
        step = super().step(key, state, action, task)
        return Step(step.state, step.observation, jnp.full_like(step.reward, jnp.nan), step.terminated)
"""


def test_a_seed_that_fails_is_named_and_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "bandit/trpo", *SMALL, "--env", "broken:Broken", "--seeds", "2", "--out", "many"]
    code, out, errors = run(capsys, *arguments)
    assert code == 1
    assert "many/seed001 stopped at iteration 0" in out
    assert "seed 1 stops" in errors
    assert not Path("many/seeds.json").exists()


def test_a_range_of_ten_times_is_drawn_in_the_logarithm() -> None:
    """Also where the ratio of the ends is rounded to a little less."""
    drawn = [float(value) for (value,) in random_settings({"rule.lr": ["3e-5..3e-4"]}, 1000, 0)]
    assert 8e-5 < np.median(drawn) < 1.1e-4


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_the_table_of_seeds_is_legible_with_many_steps(
    steps: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    values = -1234.567 - np.arange(3 * steps).reshape(3, steps)
    rows = [{"step": i, **summarise(row[:, None])} for i, row in enumerate(values.T)]
    print_seeds({"seeds": [0, 1, 2], "failed": [], "returns": rows})
    out = capsys.readouterr().out
    assert "…" not in out
    assert all(f"{row['iqm']:.2f}" in out for row in rows)
    assert "with fewer than 5 seeds" in out
