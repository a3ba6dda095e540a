"""A run: a learner with a folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from surefoot.experiment.callbacks import Callback, as_callbacks
from surefoot.experiment.config import Config
from surefoot.experiment.evaluation import EvaluationResult
from surefoot.experiment.folder import RunFolder, is_checkpoint, locked
from surefoot.experiment.learner import Learner, TrainingState, initial_state
from surefoot.experiment.loop import LoopOutcome, Member, check_iterations, run_loop, stack, warn_of_settings
from surefoot.experiment.progress import TrainingProgress
from surefoot.experiment.provenance import record_provenance
from surefoot.experiment.recording import Recorder
from surefoot.experiment.serialise import load_config, save_config
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy


@dataclass(frozen=True)
class Run:
    """A run folder, its configuration and its training state."""

    folder: RunFolder
    config: Config
    state: TrainingState
    is_named: bool = False
    """Whether a checkpoint was named, from which training goes on whatever came after it."""

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
        progress are as in `Learner.train`. Raises `UserError` if another process trains it, or if it was
        trained further since it was loaded."""
        check_iterations(iterations)
        callbacks = as_callbacks(callback)
        longer = replace(self, config=replace(self.config, iterations=self.iteration + iterations))
        with closing(Learner(longer.config)) as learner:
            outcome = train_runs([longer], learner.lower(self.state), quiet=not progress, callbacks=callbacks)
        raise_failure(longer, outcome)
        outcome.raise_signal()
        return replace(longer, state=outcome.state, is_named=False)


def load(path: str | Path) -> Run:
    """A run from its folder, or from one checkpoint file in it. Raises `UserError`, saying what is wrong.

    `load(RUN)` takes the latest checkpoint.
    """
    path = Path(path)
    folder = RunFolder.open(path)
    config = load_config(folder.config)
    is_named = is_checkpoint(path)
    file = path if is_named else folder.latest_checkpoint()
    like = eqx.filter_eval_shape(lambda: initial_state(config, jax.random.key(config.seed)))
    return Run(folder, config, folder.load(file, like), is_named)


@contextmanager
def locked_run(run: Run) -> Iterator[None]:
    """The right to train a run, and its new configuration on disk. Raises `UserError` if another process has
    the right, or has trained the run further since it was loaded."""
    with locked(run.folder):
        last = int(run.folder.latest_checkpoint().stem)
        if last > run.iteration and not run.is_named:
            raise UserError(
                f"This is {run.folder.path} as it was after iteration {run.iteration}, and it has been "
                f"trained to iteration {last} since. Use the run that `train` returned, or load it again. To "
                f"go back, load {run.folder.checkpoint(run.iteration)}."
            )
        save_config(run.config, run.folder.config)
        yield


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
            stack_of_locks.enter_context(locked_run(run))
            record_provenance(run.folder.provenance)
        config = runs[0].config
        warn_of_settings(config, config.iterations)
        members = [
            Member(run.iteration, [Recorder(run.folder, run.config, run.iteration), *callbacks], run.name)
            for run in runs
        ]
        state = stack(run.state for run in runs) if many else runs[0].state
        done = max(run.iteration for run in runs)
        waiting = "compiling the iteration" + f" of {len(runs)} runs" * many
        shown = [] if quiet else [TrainingProgress(config.iterations, done, waiting)]
        return run_loop(config, lowered, state, members, config.iterations, many=many, callbacks=shown)


def raise_failure(run: Run, outcome: LoopOutcome) -> None:
    """Raises `NonFiniteError` if the run failed, naming its last good checkpoint."""
    good = run.folder.checkpoint(outcome.members[0].iteration)
    outcome.raise_failure(f" The state before it is kept in {good}.")
