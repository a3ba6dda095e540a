"""Timelines: what is recorded, what is written and read, and that nothing is compiled twice."""

import json
import logging
import pickle
import re
import threading
from concurrent.futures import Future
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import pytest

from surefoot import cli
from surefoot.algorithms import gradient_meta
from surefoot.algorithms.base import compile_ahead
from surefoot.envs import Navigation2D
from surefoot.experiment import Config, preset, resume, train
from surefoot.experiment.callbacks import Event
from surefoot.experiment.serialise import save_config
from surefoot.experiment.timeline import TimelineWriter, read_timeline, traced_iterations
from surefoot.options import UserError
from surefoot.policies import GaussianMLP
from surefoot.report.timeline import draw_timeline
from surefoot.samplers import Processes, processes
from surefoot.samplers.messages import COMPILING, READY, answers
from surefoot.samplers.remote import WorkerSetup
from surefoot.samplers.timeline import Timeline
from surefoot.samplers.workers import AbstractWorkerBackend

JOB = {"submitted": 0.0, "worker": 1, "started": 1.0, "began": 2.0, "ended": 4.0, "task": 0, "phase": 0}
WORK = {"kind": "adapt", "started": 4.0, "ended": 5.0, "task": 0, "phase": 0}
ROW = {"iteration": 1, "seconds": 8.0, "workers": 2, "jobs": [JOB], "learner": [WORK]}


def written(path: Path, *rows: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "timeline.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_nothing_is_recorded_before_it_is_started():
    timeline, future = Timeline(), Future[int]()
    timeline.add(future, timeline.submitted())
    timeline.label(future, 3)
    with timeline.work("adapt", 3):
        pass
    assert timeline.take() == ([], [])


def test_what_has_ended_is_taken_once_and_a_lost_call_never():
    timeline = Timeline()
    timeline.start()
    running, lost = Future[int](), Future[int]()
    for future in (running, lost):
        timeline.add(future, timeline.submitted())
    timeline.label(running, 3, 1)
    lost.set_exception(RuntimeError())
    with timeline.work("adapt", 3, 1):
        assert timeline.take() == ([], [])
    job = timeline._jobs[running]
    job.worker, job.started = 0, job.submitted + 1.0
    job.end(began=0.0)
    (taken,), (work,) = timeline.take()
    assert (taken.task, taken.phase, taken.began) == (3, 1, taken.started)
    assert (work.kind, work.task, work.phase) == ("adapt", 3, 1)
    assert timeline.take() == ([], [])
    assert not timeline._jobs


def test_shares_are_those_of_the_time_in_which_something_was_done(tmp_path: Path):
    """Starting its process is no sampling."""
    (found,) = traced_iterations(written(tmp_path, ROW))
    assert found.utilisation() == [0.0, 0.25]
    assert (found.learner_share("adapt"), found.learner_share("learn")) == (0.125, 0.0)
    assert draw_timeline("a title", [found]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "damaged",
    [
        3,
        {**ROW, "iteration": 0},
        {**ROW, "seconds": 3.0},
        {**ROW, "seconds": None},
        {**ROW, "workers": 1},
        {**ROW, "jobs": [{**JOB, "started": 3.0}]},
        {**ROW, "jobs": [{**JOB, "task": "x"}]},
        {**ROW, "jobs": [{**JOB, "colour": "red"}]},
        {**ROW, "learner": [{**WORK, "kind": "sleep"}]},
        {key: value for key, value in ROW.items() if key != "jobs"},
    ],
)
def test_a_damaged_file_is_one_message_and_a_line_cut_short_none(damaged: Any, tmp_path: Path):
    assert len(read_timeline(written(tmp_path, ROW, damaged) / "timeline.jsonl")) == 1
    with pytest.raises(UserError, match=r"timeline\.jsonl is damaged: its line 1 does not hold the timeline"):
        traced_iterations(written(tmp_path, damaged, {**ROW, "iteration": 9}))
    with pytest.raises(UserError, match="line 2"):
        traced_iterations(written(tmp_path, ROW, ROW, {**ROW, "iteration": 2}))


def test_what_will_be_computed_again_is_removed(tmp_path: Path):
    """Times are those since the iteration began, and the learning step ends with it."""
    written(tmp_path, ROW, {**ROW, "iteration": 3}, {**ROW, "iteration": 4})
    timeline = Timeline()
    timeline.workers = 1
    writer = TimelineWriter(tmp_path, timeline, 3)
    assert len(read_timeline(tmp_path / "timeline.jsonl")) == 3, "another process may train the run"
    writer.begin(None)
    future = Future[int]()
    timeline.add(future, timeline.submitted())
    job = timeline._jobs[future]
    job.worker, job.started = 0, job.submitted
    job.end(began=0.0)
    writer(Event(4, 4, {}, lambda: None))
    writer.close()
    first, third, fourth = read_timeline(tmp_path / "timeline.jsonl")
    assert (first.iteration, third.iteration, fourth.iteration) == (1, 3, 4)
    (taken,) = fourth.jobs
    assert (taken.worker, taken.submitted) == (0, pytest.approx(0.0, abs=0.5))
    assert [(work.kind, work.ended) for work in fourth.learner] == [("learn", fourth.seconds)]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = written(tmp_path / "run", *({**ROW, "iteration": i} for i in (1, 2, 3)))
    save_config(preset("navigation-2d"), run / "config.yaml")
    assert cli.run(["trace", str(run), "--iterations", "2", "3"]) == 0
    assert (run / "timeline.png").stat().st_size > 0
    assert "later ones" in capsys.readouterr().out
    picture = str(run / "timeline.png")
    for arguments in (["--iterations", "7"], ["--iterations", *"123123123"], ["--out", picture]):
        assert cli.run(["trace", str(run), *arguments]) == 2
    (run / "timeline.jsonl").unlink()
    capsys.readouterr()
    assert cli.run(["trace", str(run)]) == 2
    assert "trained without --trace" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--sampler", "processes", "--seeds", "2"]])
def test_what_cannot_be_traced_is_said_before_a_folder_is_made(more: list[str], tmp_path: Path):
    out = tmp_path / "run"
    assert cli.run(["train", "navigation-2d", "--trace", "--out", str(out), *more]) == 2
    assert not out.exists()


class HereBackend(AbstractWorkerBackend):
    """A worker in this process, which answers when the learner has compiled everything: to start another
    process takes seconds."""

    ready = threading.Event()

    def __init__(self, setup: WorkerSetup) -> None:
        self.make, self.known = lru_cache(pickle.loads(setup.factory)), set()

    def call(self, message: bytes, time_limit: float, start_limit: float) -> bytes:
        assert self.ready.wait(120.0)
        *before, answer = answers(self.make, self.known, message)
        assert before in ([COMPILING, READY], [])
        return answer

    def close(self) -> None:
        """Nothing is held."""


def test_a_run_is_traced_and_compiles_while_its_workers_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def compile_and_say(*arguments: Any) -> None:
        compile_ahead(*arguments)
        HereBackend.ready.set()

    monkeypatch.setattr(processes, "ProcessBackend", HereBackend)
    monkeypatch.setattr(gradient_meta, "compile_ahead", compile_and_say)
    caplog.set_level(logging.WARNING, "jax")
    with jax.log_compiles():
        outcome = train(small(), tmp_path / "run", trace=True)
    compiled = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    assert {name: compiled.count(name) for name in PROGRAMS} == dict.fromkeys(PROGRAMS, 1)
    first, second = traced_iterations(outcome.run.folder.path)
    assert [work.kind for work in first.learner].count("compile") == 1
    for it in (first, second):
        assert sorted((job.phase, job.task) for job in it.jobs) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        kinds = [work.kind for work in it.learner if work.kind != "compile"]
        assert sorted(kinds) == ["adapt", "adapt", "learn", "prepare", "prepare"]
        assert 0.0 < sum(it.utilisation()) < 1.0
    resume(outcome.run.folder.path, iterations=3)
    assert [it.iteration for it in traced_iterations(outcome.run.folder.path)] == [1, 2, 3]


PROGRAMS = ("_batch_one", "_improve_one", "_learn")


def small() -> Config:
    base = preset("navigation-2d/maml-trpo")
    return replace(
        base,
        env=Navigation2D(horizon=3),
        policy=GaussianMLP(hidden=(2,)),
        algorithm=replace(base.algorithm, tasks=2),
        sampler=Processes(workers=1),
        episodes=2,
        iterations=2,
    )
