"""A run: a learner with a folder."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from surefoot.experiment.callbacks import Callback, Event, begin
from surefoot.experiment.config import Config
from surefoot.experiment.evaluation import EvaluationResult
from surefoot.experiment.folder import RunFolder, is_checkpoint, locked
from surefoot.experiment.learner import Learner, TrainingState, initial_state
from surefoot.experiment.loggers import hyperparameters
from surefoot.experiment.loop import LoopOutcome, Member, run_loop, stack, warn_of_settings
from surefoot.experiment.metrics import MetricsWriter
from surefoot.experiment.progress import TrainingProgress
from surefoot.experiment.provenance import record_provenance
from surefoot.experiment.serialise import check_round_trip, load_config, save_config
from surefoot.options import check, fits
from surefoot.policies import AbstractPolicy


@dataclass(frozen=True)
class Run:
    """A run folder, its configuration and its training state."""

    folder: RunFolder
    config: Config
    state: TrainingState

    @property
    def learner(self) -> Learner:
        """A learner in memory that goes on from this state."""
        learner = Learner(self.config)
        learner.state = self.state
        return learner

    @property
    def policy(self) -> AbstractPolicy:
        """The trained policy: call it on observations for a distribution over actions."""
        return self.learner.policy

    @property
    def name(self) -> str:
        """The run among others: its setting, of a sweep, and its seed."""
        setting = self.folder.path.parent.name
        return f"{setting}, " * ("=" in setting) + f"seed {self.config.seed}"

    @property
    def iteration(self) -> int:
        """Number of iterations of training so far."""
        return int(self.state.iteration)

    @property
    def picture(self) -> Path:
        """The path of the run's picture, which is made when it is finished."""
        adapts = self.config.algorithm.adapts and self.config.evaluation.steps > 0
        return self.folder.path / ("adaptation.png" if adapts else "learning.png")

    def evaluate(self, tasks: Any = None, **options: Any) -> EvaluationResult:
        """The policy's returns on tasks, a number of held-out ones or a list of your own, as
        `Learner.evaluate` gives them."""
        return self.learner.evaluate(tasks, **options)

    def adapt(self, task: Any, key: Any = None, **options: Any) -> AbstractPolicy:
        """The policy after steps of adaptation to one task, as `Learner.adapt` gives it."""
        return self.learner.adapt(task, key, **options)

    def export(self, folder: str | Path, **options: Any) -> dict[str, Any]:
        """Writes the policy to a new folder, for use without this library, as `Learner.export` does."""
        return self.learner.export(folder, **options)

    def train(
        self, iterations: int, *, callback: Callback | Sequence[Callback] = (), progress: bool = True
    ) -> "Run":
        """Trains for more iterations in the same folder, and returns the run as it is then. Callbacks and
        progress are as in `Learner.train`. Raises `UserError` if another process trains it."""
        total = self.iteration + iterations
        longer = replace(self, config=replace(self.config, iterations=total))
        callbacks = [callback] if callable(callback) else list(callback)
        with closing(Learner(longer.config)) as learner:
            outcome = train_runs([longer], learner.lower(self.state), quiet=not progress, callbacks=callbacks)
        raise_failure(longer, outcome)
        return replace(longer, state=outcome.state)


def load(path: str | Path) -> Run:
    """A run from its folder, or from one checkpoint file in it. Raises `UserError`, saying what is wrong.

    `load(RUN)` takes the latest checkpoint.
    """
    path = Path(path)
    folder = RunFolder.open(path)
    config = load_config(folder.config)
    file = path if is_checkpoint(path) else folder.latest_checkpoint()
    like = eqx.filter_eval_shape(lambda: initial_state(config, jax.random.key(config.seed)))
    return Run(folder, config, folder.load(file, like))


def train_runs(
    runs: list[Run],
    lowered: Callable[[], Any],
    *,
    many: bool = False,
    quiet: bool,
    callbacks: Sequence[Callback] = (),
) -> LoopOutcome:
    """Trains runs to the end of their configuration, side by side if there are many: with a step that was
    traced for all of them. Metrics and checkpoints go to their folders as they come, whatever ends it."""
    with ExitStack() as stack_of_locks:
        for run in runs:
            stack_of_locks.enter_context(locked(run.folder))
            save_config(run.config, run.folder.config)
            record_provenance(run.folder.provenance)
        begin(callbacks, runs[0].config)
        warn_of_settings(runs[0].config, runs[0].config.iterations)
        members = [
            Member(run.iteration, [Recorder(run.folder, run.config, run.iteration), *callbacks], run.name)
            for run in runs
        ]
        state = stack(run.state for run in runs) if many else runs[0].state
        total, done = runs[0].config.iterations, max(run.iteration for run in runs)
        waiting = "compiling the iteration" + f" of {len(runs)} runs" * many
        shown = [] if quiet else [TrainingProgress(total, done, waiting)]
        return run_loop(lowered, state, members, total, many=many, callbacks=shown)


def raise_failure(run: Run, outcome: LoopOutcome) -> None:
    """Raises `NonFiniteError` if the run failed, naming its last good checkpoint."""
    good = run.folder.checkpoint(outcome.members[0].iteration)
    outcome.raise_failure(f" The state before it is kept in {good}.")


class Checkpoints:
    """A callback that keeps training in memory in a run folder as well: a line of metrics for each iteration,
    and a checkpoint after every `every` iterations and after the last.

        learner.train(100, callback=Checkpoints("runs/mine", every=20))

    The folder is one that `surefoot resume`, `load` and the other commands take. Training from the first
    iteration makes it, and going on with the same learner goes on in it. Raises `UserError` if there is
    anything else at `folder`.
    """

    def __init__(self, folder: str | Path, every: int = 10) -> None:
        check(fits(every, int) and every >= 1, "every", every, "a whole number, 1 or more")
        self._folder, self._every = Path(folder), every
        self._config: Config | None = None
        self._run: RunFolder | None = None
        self._recorder: Recorder | None = None

    def begin(self, config: Config) -> None:
        """Makes the folder, before the first iteration."""
        check_round_trip(config)
        self._config = replace(config, checkpoint_every=self._every)
        if self._run is None:
            self._run = RunFolder.create(self._folder)
            save_config(self._config, self._run.config)
            record_provenance(self._run.provenance)

    def __call__(self, event: Event) -> None:
        assert self._config is not None
        assert self._run is not None
        if self._recorder is None:
            config = replace(self._config, iterations=max(self._config.iterations, event.total))
            save_config(config, self._run.config)
            self._recorder = Recorder(self._run, config, event.iteration - 1)
        self._recorder(event)

    def close(self) -> None:
        """Writes a checkpoint of the last state, and closes the files."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None


class Recorder:
    """A callback that writes metrics and checkpoints to a run folder. Those of later iterations, where a run
    goes on from an earlier checkpoint, are moved aside."""

    def __init__(self, folder: RunFolder, config: Config, iteration: int) -> None:
        """`iteration` is the last one before the next event's."""
        self._folder, self._every = folder, config.checkpoint_every
        self._kept = config.checkpoints_kept, config.kept_every
        self._writer = MetricsWriter(folder.path, iteration, hyperparameters(config))
        self._folder.drop_checkpoints_after(iteration)
        self._last: Event | None = None

    def __call__(self, event: Event) -> None:
        self._writer.write(event.iteration, event.metrics)
        self._last = event
        if event.finite and event.iteration % self._every == 0:
            self._writer.sync()
            self._folder.save(event.state, *self._kept)

    def close(self) -> None:
        """Writes a checkpoint of the last good state, unless there is one, and closes the files."""
        self._writer.close()
        if self._last is not None:
            state = self._last.state
            if not self._folder.checkpoint(int(state.iteration)).exists():
                self._folder.save(state, *self._kept)
