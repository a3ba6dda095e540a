"""Many runs in one folder whose options differ."""

import itertools
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from support.dense import assert_same, leaves
from support.probes import Target
from support.small import SMALL
from surefoot import cli
from surefoot.algorithms import MAML, SingleTask
from surefoot.cli.sweep import print_sweep
from surefoot.experiment import Config, Learner, load, resume_many, train, train_many
from surefoot.experiment.folder import run_folders
from surefoot.experiment.learner import TrainingState
from surefoot.experiment.training import ManyOutcome
from surefoot.options import UserError
from surefoot.policies import GaussianMLP
from surefoot.report import finish_sweep
from surefoot.rules import OptaxStep

pytestmark = [
    pytest.mark.as_users,
    pytest.mark.skipif(
        "SUREFOOT_TEST_AS_USERS" not in os.environ,
        reason="checked types do not let options be traced: run by test_as_users.py",
    ),
]


def rates(**changes: object) -> dict[str, Config]:
    """Two learning rates, of two seeds each."""
    return {
        f"rule.lr={lr}/seed{seed:03d}": replace(
            SMALL, algorithm=SingleTask(rule=OptaxStep(lr=lr)), seed=seed, **changes
        )
        for lr in (0.5, 0.02)
        for seed in (0, 1)
    }


@dataclass(frozen=True)
class Decides(Target):
    """An environment in which Python, not JAX, decides by a number."""

    threshold: float = 0.0

    def reset(self, key, task):
        state, observation = Target.reset(self, key, task)
        return state, observation if self.threshold > 0 else -observation


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ManyOutcome]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    return out, train_many(rates(), out)


def test_each_run_is_the_one_that_is_trained_alone(swept: tuple[Path, ManyOutcome], tmp_path: Path) -> None:
    _, outcome = swept
    assert [run.config for run in outcome.runs] == list(rates().values())
    for i in (0, 3):
        alone = train(outcome.runs[i].config, tmp_path / str(i)).run
        for x, y in zip(leaves(outcome.runs[i].state), leaves(alone.state), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    first, _, _, last = (leaves(run.state.learner.policy) for run in outcome.runs)
    assert not all(np.array_equal(x, y) for x, y in zip(first, last, strict=True))


def test_the_folders_are_ordinary_runs_in_the_order_of_the_numbers(swept: tuple[Path, ManyOutcome]) -> None:
    out, outcome = swept
    found = [f"{path.relative_to(out)}" for path in run_folders(out)]
    assert found == [f"rule.lr={lr}/seed{seed:03d}" for lr in (0.02, 0.5) for seed in (0, 1)]
    assert_same(load(out / "rule.lr=0.5" / "seed001").state, outcome.runs[1].state)


@pytest.mark.parametrize("stop", [2, pytest.param(3, marks=pytest.mark.optimised)])
def test_resumed_as_a_whole_it_equals_the_undisturbed_one(
    stop: int, swept: tuple[Path, ManyOutcome], tmp_path: Path
) -> None:
    train_many(rates(iterations=stop), tmp_path / "out")
    resumed = resume_many(tmp_path / "out", iterations=4)
    expected = {run.folder.path.relative_to(swept[0]): run.state for run in swept[1].runs}
    for run in resumed.runs:
        assert_same(run.state, expected[run.folder.path.relative_to(tmp_path / "out")])


def test_options_that_change_the_program_have_one_each(tmp_path: Path) -> None:
    """The number of episodes is a shape."""
    configs = {f"episodes={n}/seed000": replace(SMALL, episodes=n, iterations=1) for n in (4, 6)}
    outcome = train_many(configs, tmp_path / "out")
    assert [run.config.episodes for run in outcome.runs] == [4, 6]
    assert [run.iteration for run in outcome.runs] == [1, 1]


@dataclass(frozen=True)
class Remembers(Target):
    """An environment that looks a number up in a dictionary."""

    threshold: float = 0.0

    def reset(self, key, task):
        state, observation = Target.reset(self, key, task)
        return state, observation * {-1.0: 1, 1.0: 2}[self.threshold]


@pytest.mark.parametrize("kind", [Decides, Remembers])
def test_a_number_that_python_needs_has_a_program_for_each_value(kind: type[Any], tmp_path: Path) -> None:
    configs = {
        f"threshold={x}/seed000": replace(SMALL, env=kind(threshold=x), iterations=1) for x in (-1.0, 1.0)
    }
    assert [run.iteration for run in train_many(configs, tmp_path / "out").runs] == [1, 1]


@pytest.mark.parametrize("kind", ["single", "meta"])
def test_a_step_can_be_vmapped_over_an_option_and_called_again(kind: str) -> None:
    """Without a jit around it, and a plain step works afterwards as before."""
    config = SMALL if kind == "single" else replace(SMALL, algorithm=MAML(outer=OptaxStep(lr=0.1), tasks=2))
    option = "rule.lr" if kind == "single" else "inner.lr"
    state = Learner(config).init()

    def loss(lr: Any) -> jax.Array:
        following, _ = Learner(config, options={option: lr}).step(state)
        return jax.tree.leaves(eqx.filter(following.learner.policy, eqx.is_inexact_array))[0].sum()

    rates = jnp.array([0.0, 0.5])
    expected = [float(loss(0.0)), float(loss(0.5))]
    for _ in range(2):
        np.testing.assert_allclose(jax.vmap(loss)(rates), expected, rtol=1e-4)
    np.testing.assert_allclose(float(loss(0.5)), expected[1], rtol=1e-6)


def test_a_number_of_the_policy_has_a_program_for_each_value(tmp_path: Path) -> None:
    """It is part of the policy's structure."""
    configs = {
        f"policy.action-scale={x}/seed000": replace(
            SMALL, policy=GaussianMLP(hidden=(), action_scale=x), iterations=1
        )
        for x in (1.0, 0.1)
    }
    runs = train_many(configs, tmp_path / "out").runs
    assert [run.state.learner.policy.action_scale for run in runs] == [1.0, 0.1]


@pytest.mark.parametrize(
    ("name", "option", "given"),
    [
        ("bandit/maml-trpo", "inner.lr", {}),
        ("bandit/meta-sgd-trpo", "inner.lr", {}),
        ("bandit/reptile", "inner.lr", {}),
        ("bandit/promp", "target-kl", {"target-kl": 0.01}),
        ("bandit/e-maml-trpo", "exploration", {}),
        ("bandit/trpo", "entropy-bonus", {}),
    ],
)
def test_one_program_serves_every_value_of_a_number(name: str, option: str, given: dict[str, float]) -> None:
    learner = Learner(name, options=given)

    def step(value: Array, state: TrainingState) -> Any:
        return Learner(learner.config, options={option: value}).step(state)

    state = eqx.filter_eval_shape(learner.init)
    following, _ = eqx.filter_eval_shape(step, jnp.asarray(10.0), state)
    assert jax.tree.structure(following) == jax.tree.structure(state)


def test_the_summary_has_every_setting_and_its_verdict(swept: tuple[Path, ManyOutcome]) -> None:
    out, outcome = swept
    summary = finish_sweep(outcome.runs, out)
    assert [row["options"] for row in summary["settings"]] == [{"rule.lr": 0.5}, {"rule.lr": 0.02}]
    assert [row["seeds"] for row in summary["settings"]] == [[0, 1], [0, 1]]
    assert sorted(row["verdict"] for row in summary["settings"]) == ["best", "too few seeds"]
    assert {"sweep.json", "sweep.png", "comparison.png"} <= {path.name for path in out.iterdir()}
    with pytest.raises(UserError, match="is complete: 4 of 4"):
        resume_many(out)


def test_seeds_that_failed_are_named_and_their_setting_is_not_the_best(
    swept: tuple[Path, ManyOutcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = finish_sweep(swept[1].runs, tmp_path)
    best = summary["best"]
    lucky = [run for run in swept[1].runs if f"={best.split()[-1]}" in run.folder.path.parent.name]
    sound = [run for run in swept[1].runs if run not in lucky]
    summary = finish_sweep([*sound, lucky[0]], tmp_path, lucky[1:])
    assert summary["best"] != best
    assert sorted(row["failed"] for row in summary["settings"]) == [[], [1]]
    print_sweep(summary)
    said = capsys.readouterr().out
    assert "1 of 2" in said
    assert "may be the lucky ones" in said
    assert "add --seeds" not in said
    summary = finish_sweep(sound, tmp_path, lucky)
    assert summary["failed_settings"] == [lucky[0].folder.path.parent.name]


def test_from_the_command_line_every_combination_is_trained_and_all_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    few = ["--episodes", "4", "--iterations", "1", "--evaluation.episodes", "4", "--seeds", "2"]
    sweeps = ["--sweep.rule.max-kl", "0.001", "0.1", "--sweep.estimation.discount", "0.5", "1"]
    assert cli.run(["train", "bandit/trpo", *sweeps, *few, "--out", str(out)]) == 0
    assert "4 settings" in capsys.readouterr().out
    configs = [load(path).config for path in run_folders(out)]
    found = [(c.algorithm.rule.max_kl, c.estimation.discount, c.seed) for c in configs]
    assert sorted(found) == sorted(itertools.product((0.001, 0.1), (0.5, 1.0), (0, 1)))
    summary = json.loads((out / "sweep.json").read_text())
    assert [row["seeds"] for row in summary["settings"]] == [[0, 1]] * 4
    assert (out / "sweep.png").exists()
