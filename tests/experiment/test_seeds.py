import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import assert_same, leaves
from support.finished_runs import write_seeds
from support.probes import Target
from support.small import SMALL
from surefoot.algorithms import A3C, Estimation
from surefoot.baselines import LinearFeatures, Zero
from surefoot.cli.sweep import swept
from surefoot.envs import Step
from surefoot.experiment import (
    Config,
    Event,
    evaluate,
    load,
    loop as module,
    preset,
    resume,
    run as run_module,
    train,
)
from surefoot.experiment.folder import run_folders
from surefoot.experiment.interrupts import Interrupts
from surefoot.experiment.learner import TrainingState, compiled_initial_state as initial_state
from surefoot.experiment.many import initial_states, resume_many, seeds_of, train_seeds
from surefoot.experiment.metrics import read_metrics
from surefoot.experiment.recording import Recorder
from surefoot.experiment.run import Run
from surefoot.options import UserError
from surefoot.policies import ActorCritic
from surefoot.samplers import Processes


@dataclass(frozen=True)
class Mined(Target):
    """Rewards are NaN where the task is beyond `limit`."""

    spread: float = 1.0
    limit: float = 10.0

    def step(self, key, state, action, task) -> Step:
        step = Target.step(self, key, state, action, task)
        return replace(step, reward=jnp.where(task[0] > self.limit, jnp.nan, step.reward))


def small(**changes: object) -> Config:
    """Each seed has a task of its own."""
    return replace(SMALL, **{"env": Mined(), "checkpoint_every": 2, **changes})


def states(runs: list[Run]) -> list[TrainingState]:
    return [run.state for run in runs]


def rows(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in read_metrics(run.folder.metrics)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Seeds 3, 4 and 5."""
    outcome = train_seeds(small(seed=3), 3, tmp_path_factory.mktemp("seeds") / "out")
    assert (outcome.failed, outcome.interrupted) == ([], None)
    return outcome.runs


def test_each_seed_is_the_run_with_that_seed(trained: list[Run], tmp_path: Path) -> None:
    assert [run.config.seed for run in trained] == [3, 4, 5]
    for i, run in enumerate(trained):
        alone = train(small(seed=3 + i), tmp_path / str(i)).run
        for x, y in zip(leaves(run.state), leaves(alone.state), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
        for a, b in zip(rows(run), rows(alone), strict=True):
            assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    assert len({rows(run)[0]["loss"] for run in trained}) == 3


def test_workers_keep_nothing_of_the_seed_before(tmp_path: Path) -> None:
    """A3C's workers go on with their own episodes, of their own task."""
    config = small(
        policy=ActorCritic(hidden=(2,)),
        algorithm=A3C(fragment=4, environments=2, updates=2, synchronous=True),
        estimation=Estimation(LinearFeatures(), fit="previous-batch"),
        sampler=Processes(workers=1),
        iterations=2,
        seed=3,
    )
    _, second = train_seeds(config, 2, tmp_path / "many").runs
    alone = train(replace(config, seed=4), tmp_path / "alone").run
    assert_same(second.state, alone.state)
    assert rows(second) == rows(alone)
    assert np.isfinite(evaluate(alone.config, alone.state.learner, alone.iteration).returns).all()


def test_the_largest_seeds_are_the_same_in_both_ways() -> None:
    largest = 2**32 - 1
    many = initial_states(list(seeds_of(small(seed=largest - 1), 2).values()), {})
    one = initial_state(small(seed=largest))
    np.testing.assert_array_equal(jax.random.key_data(many.key[1]), jax.random.key_data(one.key))


def test_hundreds_of_seeds_begin_as_each_alone() -> None:
    """With orthogonal weights, which need a decomposition of each seed's matrices."""
    policy = ActorCritic(hidden=(32, 32))
    many = initial_states(list(seeds_of(small(policy=policy), 300).values()), {})
    one = initial_state(small(policy=policy, seed=299))
    for x, y in zip(leaves(many.learner.policy), leaves(one.learner.policy), strict=True):
        np.testing.assert_allclose(x[-1], y, rtol=1e-5, atol=1e-6)


def test_the_folders_are_ordinary_runs(trained: list[Run], tmp_path: Path) -> None:
    out = trained[0].folder.path.parent
    assert run_folders(out) == [out / name for name in ("seed003", "seed004", "seed005")]
    with pytest.raises(UserError, match=r"holds the runs of several seeds\. Name one of them, as .*seed003"):
        load(out)
    for run in trained:
        found = load(run.folder.path)
        assert found.config == run.config
        assert found.iteration == 4
        assert_same(found.state, run.state)
        names = {path.name for path in (run.folder.path / "checkpoints").iterdir()}
        assert names == {"000000.ckpt", "000002.ckpt", "000004.ckpt"}
        assert [row["iteration"] for row in rows(run)] == [1, 2, 3, 4]
        assert np.isfinite(evaluate(run.config, run.state.learner, 4).returns).all()


def test_one_of_them_can_be_resumed_alone(tmp_path: Path) -> None:
    runs = train_seeds(small(iterations=2), 2, tmp_path / "out").runs
    assert resume(runs[1].folder.path, iterations=3).run.iteration == 3
    assert load(runs[0].folder.path).iteration == 2


def test_resumed_equals_uninterrupted_bit_for_bit(trained: list[Run], tmp_path: Path) -> None:
    train_seeds(small(seed=3, iterations=2), 3, tmp_path / "out")
    resumed = resume_many(tmp_path / "out", iterations=4)
    assert resumed.interrupted is None
    assert_same(states(resumed.runs), states(trained))
    assert [rows(run) for run in resumed.runs] == [rows(run) for run in trained]


def test_interrupted_and_resumed_too(
    trained: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes in iteration 3, which no checkpoint would follow."""
    told: list[Interrupts] = []

    class Told(Interrupts):
        def __enter__(self) -> Interrupts:
            told.append(self)
            return super().__enter__()

    class Stops(Recorder):
        def __call__(self, event: Event) -> None:
            super().__call__(event)
            if event.iteration == 3:
                told[0].received = signal.SIGINT

    with monkeypatch.context() as patch:
        patch.setattr(module, "Interrupts", Told)
        patch.setattr(run_module, "Recorder", Stops)
        outcome = train_seeds(small(seed=3), 3, tmp_path / "out")
    assert outcome.interrupted is signal.SIGINT
    assert [run.iteration for run in outcome.runs] == [3, 3, 3]
    assert [load(folder).iteration for folder in run_folders(tmp_path / "out")] == [3, 3, 3]
    resumed = resume_many(tmp_path / "out")
    assert_same(states(resumed.runs), states(trained))
    assert [rows(run) for run in resumed.runs] == [rows(run) for run in trained]


def test_a_seed_that_fails_does_not_stop_the_others(trained: list[Run], tmp_path: Path) -> None:
    tasks = [float(run.state.learner.own.task[0, 0]) for run in trained]
    worst = int(np.argmax(tasks))
    limit = sorted(tasks)[1]
    mined = small(seed=3, env=Mined(limit=limit))
    outcome = train_seeds(replace(mined, iterations=2), 3, tmp_path / "out")
    assert [run.config.seed for run in outcome.failed] == [3 + worst]
    assert [run.iteration for run in outcome.runs] == [0 if i == worst else 2 for i in range(3)]
    failed = load(outcome.failed[0].folder.path)
    assert failed.iteration == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(failed.policy))
    assert [(row["iteration"], row["loss"]) for row in rows(failed)] == [(1, None)]

    resumed = resume_many(tmp_path / "out", iterations=4)
    assert [run.config.seed for run in resumed.failed] == [3 + worst]
    good = [i for i in range(3) if i != worst]
    assert [resumed.runs[i].iteration for i in good] == [4, 4]
    for i in good:
        for x, y in zip(leaves(resumed.runs[i].state), leaves(trained[i].state), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_all_may_fail(tmp_path: Path) -> None:
    outcome = train_seeds(small(env=Mined(limit=-1.0)), 2, tmp_path / "out")
    assert outcome.failed == outcome.runs
    assert outcome.interrupted is None
    assert [run.iteration for run in outcome.runs] == [0, 0]


def test_what_cannot_be_trained_leaves_nothing_behind(trained: list[Run], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="seeds is 0; it must be 1 or more"):
        train_seeds(small(), 0, out)
    with pytest.raises(UserError, match="seed is 4294967296"):
        train_seeds(small(seed=2**32 - 1), 2, out)
    with pytest.raises(UserError, match="needs 2 episodes"):
        train_seeds(small(estimation=Estimation(Zero()), episodes=1), 2, out)
    assert not out.exists()
    with pytest.raises(UserError, match="exists already"):
        train_seeds(small(), 1, trained[0].folder.path.parent)


def test_a_seed_that_lost_its_last_checkpoint_is_brought_to_the_same_end(
    trained: list[Run], tmp_path: Path
) -> None:
    shutil.copytree(trained[0].folder.path.parent, tmp_path / "copy")
    (tmp_path / "copy" / "seed004" / "checkpoints" / "000004.ckpt").unlink()
    assert_same(states(resume_many(tmp_path / "copy").runs), states(trained))


def test_what_cannot_be_resumed(trained: list[Run], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs of many seeds at"):
        resume_many(tmp_path)
    with pytest.raises(UserError, match="is at iteration 4 already, beyond 3"):
        resume_many(trained[0].folder.path.parent, iterations=3)
    assert [run.iteration for run in resume_many(trained[0].folder.path.parent).runs] == [4, 4, 4]
    for run in trained:
        run.folder.evaluation.write_text('{"iteration": 4}')
    (trained[0].folder.path.parent / "seeds.png").touch()
    with pytest.raises(UserError, match=r"is complete: 4 of 4 iterations\. To train it longer: .*s 8"):
        resume_many(trained[0].folder.path.parent)


def test_a_long_setting_has_a_short_folder() -> None:
    names = [f"option{i}" for i in range(40)]
    settings = [("0.123",) * 40, (*("0.123",) * 39, "0.124")]
    configs = iter([preset("bandit/trpo"), preset("cartpole/ppo")])
    folders = list(swept(names, settings, lambda _: next(configs)))
    assert len(set(folders)) == 2
    assert all(len(folder) < 100 and "=" in folder for folder in folders)


def test_a_copy_beside_the_seeds_is_no_seed(tmp_path: Path) -> None:
    out = write_seeds(tmp_path / "runs", "bandit/trpo", {0: 1.0, 1: 2.0})
    shutil.copytree(out / "seed000", out / "seed000_backup")
    assert [path.name for path in run_folders(out)] == ["seed000", "seed001"]
