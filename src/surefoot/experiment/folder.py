"""A run on disk: one folder with its configuration and its results.

RUN/config.yaml               the configuration, complete
RUN/provenance.json           versions, commit, machine and command line of each training
RUN/metrics.jsonl             one line for each iteration
RUN/tensorboard/              the same for TensorBoard
RUN/timeline.jsonl            the timeline of workers and learner; only with --trace
RUN/checkpoints/000100.ckpt   the training state after 100 iterations
RUN/evaluation.json           the returns at the end: before and after adaptation, if the policy adapts
RUN/adaptation.png            the same as a picture; learning.png of a policy that does not adapt
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import yaml
from filelock import AcquireReturnProxy, FileLock, Timeout

from surefoot.experiment import checkpoint
from surefoot.experiment.files import make_folder, must_not_exist, quoted
from surefoot.options import UserError


def must_be_new(path: Path) -> None:
    """Raises `UserError` if there is anything at `path`: no run is ever written over."""
    must_not_exist(path, or_else=f", or go on with it: surefoot resume {quoted(path)}")


def make_new(path: Path) -> None:
    """A folder where there was nothing. Raises `UserError`."""
    must_be_new(path)
    make_folder(path, new=True)


def run_folders(out: Path) -> list[Path]:
    """The run folders of several seeds or of a sweep under `out`, a sweep's in the order of its numbers; none
    if `out` holds no such runs."""
    paths = [path.parent for form in ("seed*", "*=*/seed*") for path in out.glob(f"{form}/config.yaml")]
    found = [path for path in paths if path.name.removeprefix("seed").isdecimal()]  # no seed000_backup
    return sorted(found, key=lambda path: [_in_order(part) for part in re.split("[=,]", f"{path}")])


def _in_order(part: str) -> tuple[float, str]:
    """A key that sorts numbers by their size, before other texts."""
    try:
        return float(part.partition("/")[0]), part
    except ValueError:
        return inf, part


_CHANGEABLE = {"iterations", "checkpoint_every", "checkpoints_kept", "kept_every"}
_CHANGEABLE |= {"evaluation", "sampler", "preset"}
"""Options that a run may change from one training to the next: its states do not follow from them."""


def same_states(one: Any, other: Any) -> bool:
    """Whether two configurations differ in nothing that a run's states follow from."""
    return one == replace(other, **{name: getattr(one, name) for name in _CHANGEABLE})


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run folder."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """A new folder. Raises `UserError` if there is anything at `path`."""
        make_new(path)
        (path / "checkpoints").mkdir()
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of an existing run, at `path` or with the checkpoint at `path`. Raises `UserError` if
        there is none."""
        folder = cls(path.resolve().parent.parent if is_checkpoint(path) else path)
        try:
            there, complete = folder.path.is_dir(), folder.config.exists()
        except OSError as error:
            raise UserError(f"There is no run at {path}: {error.strerror}.") from error
        if not there:
            raise UserError(f"There is no run at {path}.")
        runs = [] if complete else run_folders(folder.path)
        if runs:
            raise UserError(f"{folder.path} holds the runs of several seeds. Name one of them, as {runs[0]}.")
        if not complete:
            raise UserError(f"{folder.path} is not a run of surefoot: it has no config.yaml.")
        return folder

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @cached_property
    def identity(self) -> str:
        """A digest of the options that the run's states follow from, which its checkpoints hold too."""
        document = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        fixed = {name: value for name, value in document.items() if name not in _CHANGEABLE}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    def is_evaluated_at(self, iteration: int) -> bool:
        """Whether the evaluation can be read, and is that of the policy after this number of iterations."""
        try:
            return json.loads(self.evaluation.read_text(encoding="utf-8"))["iteration"] == iteration
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def checkpoint(self, iteration: int) -> Path:
        """The file of the state after this number of iterations."""
        return self.path / "checkpoints" / f"{iteration:06d}.ckpt"

    def latest_checkpoint(self) -> Path:
        """Raises `UserError` if there is none."""
        files = self.checkpoints()
        if not files:
            raise UserError(f"{self.path} holds no checkpoint; start the run again with another --out.")
        return files[-1]

    def checkpoints(self) -> list[Path]:
        """The checkpoint files, the oldest first."""
        files = [x for x in (self.path / "checkpoints").glob("*.ckpt") if x.stem.isdecimal()]
        return sorted(files, key=lambda file: int(file.stem))

    def drop_checkpoints_after(self, iteration: int) -> None:
        """Moves the checkpoints of later iterations to `checkpoints/dropped`."""
        later = [file for file in self.checkpoints() if int(file.stem) > iteration]
        for file in later:
            dropped = file.parent / "dropped"
            dropped.mkdir(exist_ok=True)
            file.replace(dropped / file.name)

    def load(self, file: Path, like: Any) -> Any:
        """The state in a checkpoint of this run, of the form of `like`. Raises `UserError`; where the file is
        damaged it names the last sound checkpoint before it."""
        try:
            return checkpoint.load(file, like, self.identity)[0]
        except checkpoint.UnreadableError as error:
            number = int(file.stem) if file.stem.isdecimal() else 0
            before = [x for x in reversed(self.checkpoints()) if int(x.stem) < number]
            sound = next(filter(checkpoint.is_sound, before), None)
            remedy = (
                "There is no sound one before it; start the run again with another --out."
                if sound is None
                else f"To go on from the last sound one before it: surefoot resume {quoted(sound)}"
            )
            raise UserError(f"{error} {remedy}") from error

    def save(self, state: Any, keep: int = 0, every: int = 0) -> None:
        """Writes a checkpoint. Keeps the last `keep` of all (0: every one), and that of each `every`-th
        iteration (0: none)."""
        iteration = int(state.iteration)
        checkpoint.save(self.checkpoint(iteration), state, iteration, self.identity)
        for old in self.checkpoints()[:-keep] if keep else []:
            if not every or int(old.stem) % every:
                old.unlink()


def locked(folder: RunFolder) -> AcquireReturnProxy:
    """The right to train a run, for a `with` block. Temporary files that a killed process has left are
    deleted. Raises `UserError` if another process has the right."""
    try:
        lock = FileLock(folder.path / ".lock").acquire(timeout=0)
        for place in (folder.path, folder.path / "checkpoints"):
            for left_over in place.glob(".*.tmp"):
                left_over.unlink()
        return lock
    except Timeout:
        raise UserError(f"Another process is training {folder.path}; wait for it or stop it.") from None
    except OSError as error:
        raise UserError(f"The run in {folder.path} cannot be written to: {error.strerror}.") from error


def is_checkpoint(path: Path) -> bool:
    """Whether a path names a checkpoint file."""
    return path.suffix == ".ckpt"
