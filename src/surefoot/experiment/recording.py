"""Callbacks that keep training in a run folder: what `train` itself uses, and `Checkpoints` for training in
memory."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from surefoot.experiment.callbacks import Event, begun
from surefoot.experiment.config import Config
from surefoot.experiment.folder import RunFolder, locked, must_be_new, same_states
from surefoot.experiment.loggers import hyperparameters
from surefoot.experiment.metrics import MetricsWriter
from surefoot.experiment.provenance import record_provenance
from surefoot.experiment.serialise import check_round_trip, save_config
from surefoot.options import UserError, check, fits


class Recorder:
    """A callback that writes metrics and checkpoints to a run folder. Those of later iterations, where a run
    goes on from an earlier checkpoint, are moved aside."""

    def __init__(self, folder: RunFolder, config: Config, iteration: int) -> None:
        """`iteration` is the last one before the next event's."""
        self._folder, self._config, self._iteration = folder, config, iteration
        self._kept = config.checkpoints_kept, config.kept_every
        self._last: Event | None = None

    def begin(self, _: Config) -> None:
        """Opens the files, when the run is locked."""
        self._writer = MetricsWriter(self._folder.path, self._iteration, hyperparameters(self._config))
        self._folder.drop_checkpoints_after(self._iteration)
        self._error = sys.exception()

    def __call__(self, event: Event) -> None:
        self._writer.write(event.row())
        self._last = event
        if event.finite and event.iteration % self._config.checkpoint_every == 0:
            self._writer.sync()
            self._folder.save(event.state, *self._kept)

    def close(self) -> None:
        """Writes a checkpoint of the last good state, unless there is one, and closes the files."""
        finite = self._last is None or self._last.finite
        self._writer.close(succeeded=finite and sys.exception() is self._error)
        if self._last is not None:
            state = self._last.state
            if not self._folder.checkpoint(int(state.iteration)).exists():
                self._folder.save(state, *self._kept)


class Checkpoints:
    """A callback that keeps training in memory in a run folder as well: a line of metrics for each iteration,
    and a checkpoint after every `every` iterations and after the last.

        learner.train(100, callback=Checkpoints("runs/mine", every=20))

    The folder is one that `surefoot resume`, `load` and the other commands take. The first iteration makes
    it, and going on with the same learner goes on in it. Raises `UserError` if there is anything else at
    `folder`, or if another process trains it.
    """

    def __init__(self, folder: str | Path, every: int = 10) -> None:
        check(fits(every, int) and every >= 1, "every", every, "a whole number, 1 or more")
        self._folder, self._every = Path(folder), every
        self._config: Config | None = None
        self._run: RunFolder | None = None
        self._recorder: Recorder | None = None
        self._iteration = 0
        self._open = ExitStack()

    def begin(self, config: Config) -> None:
        """Makes sure that training can be kept here; nothing is written before the first iteration."""
        check_round_trip(config)
        if self._run is None:
            must_be_new(self._folder)
        elif same_states(self._config, config):
            self._open.enter_context(locked(self._run))
        else:
            self._refuse("with other options or another seed")
        self._config = replace(config, checkpoint_every=self._every)

    def __call__(self, event: Event) -> None:
        if self._recorder is None:
            self._recorder = self._begin_to_record(event)
        self._recorder(event)
        self._iteration = event.iteration if event.finite else self._iteration

    def _begin_to_record(self, event: Event) -> Recorder:
        assert self._config is not None  # `begin` has been called
        if event.iteration != self._iteration + 1:
            self._refuse(f"at iteration {event.iteration}, and this run ends at {self._iteration}")
        config = replace(self._config, iterations=max(self._config.iterations, event.total))
        if self._run is None:
            self._run = RunFolder.create(self._folder)
            self._open.enter_context(locked(self._run))
            record_provenance(self._run.provenance)
        save_config(config, self._run.config)
        recorder = Recorder(self._run, config, self._iteration)
        self._open.enter_context(begun([recorder], config))
        return recorder

    def close(self) -> None:
        """Writes a checkpoint of the last state, and closes the files."""
        self._recorder = None
        self._open.close()

    def _refuse(self, event: str) -> NoReturn:
        raise UserError(
            f"{self._folder} keeps one learner's training, and this one is {event}. Make Checkpoints for "
            "each learner, with a folder of its own."
        )
