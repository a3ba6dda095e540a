"""Training into a run folder, and resuming it."""

import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from surefoot.experiment.callbacks import Callback
from surefoot.experiment.config import Config
from surefoot.experiment.files import quoted
from surefoot.experiment.folder import RunFolder, must_be_new
from surefoot.experiment.learner import Learner, TrainingState, compiled_initial_state
from surefoot.experiment.own_env import check_own_env
from surefoot.experiment.presets import rate_ends
from surefoot.experiment.run import Run, load, locked_run, raise_failure, train_runs
from surefoot.experiment.serialise import check_round_trip, save_config
from surefoot.experiment.timeline import TimelineWriter, timeline_path
from surefoot.options import UserError
from surefoot.samplers.timeline import Timeline


@dataclass(frozen=True)
class Outcome:
    """The outcome of `train` or `resume`."""

    run: Run
    interrupted: signal.Signals | None
    """The signal that ended it, or came in its last iteration; None if there was none."""


@dataclass(frozen=True)
class ManyOutcome:
    """The outcome of training many runs."""

    runs: list[Run]
    failed: list[Run]
    """Those of `runs` that stopped at a loss or parameter that is not finite, at their last good state."""
    interrupted: signal.Signals | None
    """The signal that ended it, or came in the last iteration; None if there was none."""


def train(
    config: Config,
    out: str | Path,
    *,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
    trace: bool = False,
) -> Outcome:
    """Trains from the beginning, into a new folder. With `quiet` off, progress goes to standard error; each
    callback is given an `Event` after every iteration. `trace` leaves `timeline.jsonl`, with what worker
    processes and the learner do when.

    Raises `UserError` if the folder exists or a part does not fit another, before anything is written, and
    `NonFiniteError` as it says.
    """
    # First, because to trace what would then be refused takes seconds.
    must_be_new(Path(out))
    check_round_trip(config)
    check_own_env(config)
    with closing(Learner(config)) as learner:
        state = compiled_initial_state(config)
        timeline = learner.setting.sampler.timeline if trace else None
        if trace and timeline is None:
            raise UserError(
                "A timeline shows what worker processes do, and this run has none; add --sampler processes, "
                "or leave out --trace."
            )
        lowered = learner.lower(state)
        run = new_run(config, Path(out), state)
        return _go_on(run, lowered, quiet, callbacks, timeline)


def resume(
    run: str | Path,
    *,
    iterations: int | None = None,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Goes on with a run from its latest checkpoint, to the same end as if it had never stopped.

    `iterations` sets a new total, for longer training. A run with a timeline goes on writing it. A run that
    lacks nothing but its evaluation is returned as it is. Raises `UserError` if the run cannot be read or is
    at its end, `NonFiniteError` as it says.
    """
    (found,) = to_resume([load(run)], Path(run), iterations)
    if found.iteration == found.config.iterations:
        with locked_run(found):
            return Outcome(found, None)
    with closing(Learner(found.config)) as learner:
        traced = timeline_path(found.folder.path).exists()
        timeline = learner.setting.sampler.timeline if traced else None
        return _go_on(found, learner.lower(found.state), quiet, callbacks, timeline)


def new_run(config: Config, path: Path, state: TrainingState) -> Run:
    """A new run folder, which holds the configuration and the state before the first iteration."""
    folder = RunFolder.create(path)
    save_config(config, folder.config)
    folder.save(state)
    return Run(folder, config, state)


def to_resume(runs: list[Run], path: Path, iterations: int | None) -> list[Run]:
    """The runs with their new total. Raises `UserError` if there is nothing to do."""
    if iterations is not None:
        runs = [replace(run, config=replace(run.config, iterations=iterations)) for run in runs]
    done, wanted = max((run.iteration, run.config.iterations) for run in runs)
    several = any(path in run.folder.path.parents for run in runs)
    pictures = [path / "seeds.png", path / "sweep.png"] if several else [run.picture for run in runs]
    if any(run.iteration > run.config.iterations for run in runs):
        raise UserError(f"{path} is at iteration {done} already, beyond {wanted}.")
    at_their_end = (
        run.iteration == run.config.iterations and run.folder.is_evaluated_at(run.iteration) for run in runs
    )
    if all(at_their_end) and any(picture.exists() for picture in pictures):
        longer = f"To train it longer: surefoot resume {quoted(path)} --iterations {2 * wanted}"
        if rate_ends(runs[0].config)[1] <= wanted:
            longer = (
                "Its learning rate has come to 0, so that a longer training begins anew: surefoot train "
                f"--config {quoted(runs[0].folder.config)} --iterations {2 * wanted}"
            )
        raise UserError(f"{path} is complete: {done} of {wanted} iterations. {longer}")
    return runs


def _go_on(
    run: Run,
    lowered: Callable[[], Any],
    quiet: bool,
    callbacks: Sequence[Callback],
    timeline: Timeline | None,
) -> Outcome:
    """Trains a run to its end, or until it is interrupted. A timeline that is given is written."""
    if timeline is not None:
        callbacks = [*callbacks, TimelineWriter(run.folder.path, timeline, run.iteration)]
    outcome = train_runs([run], lowered, quiet=quiet, callbacks=callbacks)
    raise_failure(run, outcome)
    return Outcome(replace(run, state=outcome.state), outcome.interrupted)
