import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filelock import FileLock

from support.dense import assert_same, leaves
from surefoot.algorithms import SingleTask
from surefoot.baselines import ValueNetwork
from surefoot.envs import Bandit, Step
from surefoot.experiment import PRESETS, Config, Evaluation, NonFiniteError, load, preset, resume, train
from surefoot.experiment.checkpoint import load as checkpoint_load, save
from surefoot.experiment.folder import RunFolder, locked
from surefoot.experiment.learner import compiled_initial_state as initial_state
from surefoot.experiment.loggers import GROUP
from surefoot.experiment.metrics import MetricsWriter, read_metrics
from surefoot.experiment.run import Run
from surefoot.options import UserError
from surefoot.policies import GaussianMLP
from surefoot.rules import OptaxStep


def rows(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in read_metrics(run.folder.metrics)]


def test_a_run_leaves_configuration_metrics_and_checkpoints(trained: Run) -> None:
    folder = trained.folder.path
    assert {f.name for f in (folder / "checkpoints").iterdir()} == {f"{i:06d}.ckpt" for i in (0, 2, 4, 6)}
    assert [row["iteration"] for row in rows(trained)] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(value) for row in rows(trained) for value in row.values())
    assert {"return_before", "return_after", "kl", "loss", "cg_residual"} <= rows(trained)[0].keys()
    (events,) = (folder / "tensorboard").iterdir()
    assert scalars(events) == {
        (row["steps"], f"{GROUP[name]}/{name}"): np.float32(value)
        for row in read_metrics(trained.folder.metrics)
        for name, value in row.items()
    }
    assert b"algorithm.inner.lr" in events.read_bytes(), "hyper-parameters"


def scalars(events: Path) -> dict[tuple[int, str], np.float32]:
    """Those in a file of TensorBoard's, by step and tag: records of a length, its checksum, an event, its
    checksum."""
    parse = import_module("tensorboardX.proto.event_pb2").Event.FromString
    content, found = events.read_bytes(), {}
    while content:
        size = int.from_bytes(content[:8], "little")
        event, content = parse(content[12 : 12 + size]), content[16 + size :]
        found |= {
            (event.step, value.tag): np.float32(value.simple_value)
            for value in event.summary.value
            if not value.tag.startswith("_hparams_/")
        }
    return found


def test_the_same_configuration_is_the_same_run(trained: Run, config: Config, tmp_path: Path) -> None:
    again = train(config, tmp_path / "again").run
    assert_same(again.state, trained.state)
    assert rows(again) == rows(trained)
    other = train(replace(config, seed=1), tmp_path / "other").run
    assert rows(other) != rows(trained)


@dataclass(frozen=True)
class WeaklyTyped(GaussianMLP):
    """Its parameters are as `jnp.full` makes them from Python's numbers."""

    def build(self, key, observation_space, action_space):
        policy = GaussianMLP.build(self, key, observation_space, action_space)
        weak = jnp.full(action_space.size, -0.5)
        assert weak.weak_type
        return eqx.tree_at(lambda p: p.raw_log_std, policy, weak)


@pytest.mark.parametrize("stop", [2, pytest.param(3, marks=pytest.mark.optimised)])
def test_resumed_equals_uninterrupted_bit_for_bit(
    stop: int, trained: Run, config: Config, tmp_path: Path
) -> None:
    first = train(replace(config, iterations=stop), tmp_path / "run").run
    assert first.iteration == stop
    assert resume(tmp_path / "run", iterations=6).interrupted is None
    resumed = load(tmp_path / "run")
    assert resumed.iteration == 6
    assert_same(resumed.state, trained.state)
    assert rows(resumed) == rows(trained)


KINDS_OF_STATE = [
    *(name for name in PRESETS if name.startswith("cartpole/")),
    *("recall/ppo", "half-cheetah/ppo", "bandit/maml-trpo", "half-cheetah-dir/maml-trpo"),
]
"""Those of every algorithm, of a policy that remembers, of physics, and of meta-learning."""


@pytest.mark.parametrize("name", KINDS_OF_STATE)
def test_a_checkpoint_compiles_to_the_same_program(name: str, tmp_path: Path) -> None:
    """Else rounding would differ after a resume. Types that a file cannot hold (weak ones) would do that."""
    state = initial_state(PRESETS[name])
    save(tmp_path / "a.ckpt", state, 0)
    found, _ = checkpoint_load(tmp_path / "a.ckpt", state)
    assert [x.aval for x in jax.tree.leaves(found)] == [x.aval for x in jax.tree.leaves(state)]


def test_a_policy_of_weakly_typed_arrays_resumes_bit_for_bit_too(tmp_path: Path) -> None:
    evaluation = Evaluation(tasks=2, episodes=2)
    small = replace(preset("navigation-2d/trpo"), policy=WeaklyTyped(hidden=(8,)), episodes=4, iterations=4)
    small = replace(small, evaluation=evaluation)
    whole = train(small, tmp_path / "whole").run
    train(replace(small, iterations=2), tmp_path / "parts")
    assert_same(resume(tmp_path / "parts", iterations=4).run.state, whole.state)


def test_with_an_optimiser_that_remembers(config: Config, tmp_path: Path) -> None:
    adam = replace(config, algorithm=SingleTask(rule=OptaxStep("adam", 0.1), loss="reinforce"))
    whole = train(adam, tmp_path / "whole").run
    train(replace(adam, iterations=3), tmp_path / "parts")
    assert_same(resume(tmp_path / "parts", iterations=6).run.state, whole.state)


def test_a_killed_run_goes_on_from_its_last_checkpoint(trained: Run, tmp_path: Path) -> None:
    """Killed in iteration 6: metrics up to 5 and a line cut short, checkpoints up to 4."""
    copy = tmp_path / "killed"
    shutil.copytree(trained.folder.path, copy)
    (copy / "checkpoints" / "000006.ckpt").unlink()
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    (copy / "checkpoints" / ".000006.ckpt.1.tmp").write_bytes(b"half")
    outcome = resume(copy)
    assert_same(outcome.run.state, trained.state)
    assert rows(outcome.run) == rows(trained)


def test_metrics_that_a_resume_computes_again_are_kept_beside(trained: Run, tmp_path: Path) -> None:
    """Resuming an old checkpoint must not be able to lose the metrics of a finished run."""
    copy = tmp_path / "copy"
    shutil.copytree(trained.folder.path, copy)
    for iteration in (4, 6):
        (copy / "checkpoints" / f"{iteration:06d}.ckpt").unlink()
    resume(copy)
    dropped = read_metrics(copy / "metrics.dropped.jsonl")
    assert dropped == read_metrics(trained.folder.metrics)[2:]
    assert [row["iteration"] for row in read_metrics(copy / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_old_checkpoints_are_deleted_where_that_is_asked_for(config: Config, tmp_path: Path) -> None:
    run = train(replace(config, checkpoints_kept=2), tmp_path / "run").run
    assert [file.stem for file in run.folder.checkpoints()] == ["000004", "000006"]
    assert len(train(config, tmp_path / "all").run.folder.checkpoints()) == 4


def test_some_of_them_are_kept_for_good(config: Config, tmp_path: Path) -> None:
    kept = replace(config, checkpoints_kept=1, checkpoint_every=1, kept_every=3)
    run = train(kept, tmp_path / "run").run
    assert [file.stem for file in run.folder.checkpoints()] == ["000000", "000003", "000006"]


def test_a_run_says_what_it_was_made_with(config: Config, tmp_path: Path) -> None:
    train(replace(config, iterations=2), tmp_path / "run")
    resume(tmp_path / "run", iterations=3)
    first, second = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert first["versions"]["jax"] == jax.__version__
    assert first["command"] == second["command"] == sys.argv
    assert first["devices"] == [str(device) for device in jax.devices()]
    assert {"python", "surefoot", "numpy", "mujoco"} <= second["versions"].keys()


def test_a_complete_run_says_how_to_learn_on(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "complete"
    shutil.copytree(trained.folder.path, copy)
    (copy / "evaluation.json").write_text('{"iteration": 6}')
    assert resume(copy).run.iteration == 6, "the picture is missing"
    load(copy).picture.touch()
    with pytest.raises(UserError, match=r"is complete: 6 of 6 iterations\. To train it longer: .*s 12"):
        resume(copy)
    with pytest.raises(UserError, match="beyond 3"):
        resume(copy, iterations=3)


@pytest.mark.parametrize("evaluation", ['{"iteration": 4}', '{"iteration"', "[]"])
def test_an_evaluation_of_another_iteration_or_a_damaged_one_is_made_again(
    evaluation: str, trained: Run, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.folder.path, copy)
    (copy / "evaluation.json").write_text(evaluation)
    assert resume(copy).run.iteration == 6


def test_checkpoints_of_later_iterations_are_moved_aside(trained: Run, tmp_path: Path) -> None:
    """Going on from an earlier checkpoint, and stopped again, the run is where it was stopped."""
    copy = tmp_path / "copy"
    shutil.copytree(trained.folder.path, copy)
    resume(copy / "checkpoints" / "000002.ckpt", callbacks=[lambda event: event.iteration == 3])
    assert load(copy).iteration == 3
    dropped = copy / "checkpoints" / "dropped" / "000006.ckpt"
    assert dropped.read_bytes() == trained.folder.checkpoint(6).read_bytes()
    assert_same(resume(copy).run.state, trained.state)


def test_nothing_is_overwritten(trained: Run, config: Config) -> None:
    before = {f: f.read_bytes() for f in trained.folder.path.rglob("*") if f.is_file()}
    with pytest.raises(UserError, match="exists already"):
        train(config, trained.folder.path)
    assert {f: f.read_bytes() for f in trained.folder.path.rglob("*") if f.is_file()} == before


def test_a_damaged_checkpoint_stops_resuming_and_changes_nothing(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(trained.folder.path, copy)
    path = copy / "checkpoints" / "000006.ckpt"
    path.write_bytes(path.read_bytes()[:-1])
    before = {f: f.read_bytes() for f in copy.rglob("*") if f.is_file()}
    with pytest.raises(UserError, match="damaged"):
        resume(copy, iterations=8)
    assert {f: f.read_bytes() for f in copy.rglob("*") if f.is_file()} == before
    path.unlink()
    assert_same(resume(copy).run.state, trained.state)


def test_two_processes_cannot_train_one_run(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "busy"
    shutil.copytree(trained.folder.path, copy)
    with FileLock(copy / ".lock"), pytest.raises(UserError, match="Another process"):
        resume(copy, iterations=8)
    assert load(copy).config.iterations == 6, "what was refused changes nothing"


def test_the_run_is_free_when_training_ends(config: Config, tmp_path: Path) -> None:
    outcome = train(replace(config, iterations=1), tmp_path / "run")
    with FileLock(outcome.run.folder.path / ".lock", timeout=0) as lock:
        assert lock.is_locked


def test_a_run_that_cannot_be_written_to_is_not_resumed(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "sealed"
    shutil.copytree(trained.folder.path, copy)
    (copy / ".lock").unlink(missing_ok=True)
    (copy / ".lock").mkdir()  # as good as no permission, which an administrator always has
    with pytest.raises(UserError, match="cannot be written to: Is a directory"):
        resume(copy, iterations=8)


def test_the_lock_is_held_for_its_block_and_no_longer(trained: Run, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    held = locked(folder)
    with held, pytest.raises(UserError, match="Another process"):
        locked(folder)
    with locked(folder):
        del held


def test_a_new_total_that_is_reached_already_is_kept(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "ended"
    shutil.copytree(trained.folder.path, copy)
    (copy / "checkpoints" / "000006.ckpt").unlink()
    assert resume(copy, iterations=4).run.config.iterations == 4
    assert load(copy).config.iterations == 4


def test_a_baseline_that_is_not_finite_is_not_kept_either(tmp_path: Path) -> None:
    """The policy and the loss know nothing of it before the next iteration."""
    config = preset("cartpole/vpg")
    steep = ValueNetwork(hidden=(2,), lr=1e38)
    config = replace(
        config, estimation=replace(config.estimation, baseline=steep), streams=2, steps=8, iterations=9
    )
    with pytest.raises(NonFiniteError):
        train(config, tmp_path / "run")
    learner = load(tmp_path / "run").state.learner
    kept = jax.tree.leaves(eqx.filter((learner.policy, learner.baselines), eqx.is_inexact_array))
    assert all(np.all(np.isfinite(x)) for x in kept)


@dataclass(frozen=True)
class Treacherous(Bandit):
    """Rewards are NaN once the policy has an arm it likes well enough."""

    def step(self, key, state, action, task) -> Step:
        step = Bandit.step(self, key, state, action, task)
        return eqx.tree_at(lambda s: s.reward, step, jnp.where(jnp.max(task) > 0.97, jnp.nan, step.reward))


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(config: Config, tmp_path: Path) -> None:
    treacherous = replace(config, env=Treacherous(), iterations=40, checkpoint_every=100)
    with pytest.raises(NonFiniteError, match=r"kept in .*\.ckpt") as caught:
        train(treacherous, tmp_path / "run")
    kept = load(tmp_path / "run")
    assert str(kept.folder.latest_checkpoint()) in str(caught.value)
    assert all(np.all(np.isfinite(x)) for x in leaves(kept.state) if x.dtype.kind == "f")
    written = rows(kept)
    assert [row["iteration"] for row in written] == list(range(1, kept.iteration + 2))
    assert written[-1]["loss"] is None, "the metrics of the failing iteration are kept too, as null"


def test_metrics_that_are_not_finite_are_null(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, 0)
    writer.write({"iteration": 1, "loss": float("nan"), "kl": 0.5})
    writer.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"iteration": 1, "loss": None, "kl": 0.5}


def test_metrics_are_written_without_pytorch_which_stays_as_it_was(tmp_path: Path) -> None:
    """tensorboardX would import it, where it is installed, for seconds."""
    (tmp_path / "torch.py").write_text("print('imported')")
    program = """
import pathlib
from surefoot.experiment.metrics import MetricsWriter
writer = MetricsWriter(pathlib.Path("."), 0)
writer.write({"iteration": 1, "loss": 0.5})
writer.close()
print("written")
import torch
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "written\nimported\n"


@pytest.mark.parametrize(
    ("path", "message"), [("nothing", "There is no run at"), (".", "is not a run of surefoot")]
)
def test_folders_that_are_no_runs(path: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path / path)


def test_a_run_without_checkpoints(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "empty"
    shutil.copytree(trained.folder.path, copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="holds no checkpoint"):
        load(copy)
