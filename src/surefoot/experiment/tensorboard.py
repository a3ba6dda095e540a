"""TensorBoard: the files that every run folder has, and a logger for training without a folder."""

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from surefoot.experiment.loggers import AbstractLogger, Hyperparameter

COMPARED = tuple(f"return/{name}" for name in ("return", "return_before", "return_after"))
"""The metrics that TensorBoard's table of hyper-parameters compares runs by."""


class TensorBoard(AbstractLogger):
    """Logs metrics and hyper-parameters to a folder for TensorBoard:
    `learner.train(callback=TensorBoard("logs/mine"))`.

    A run folder has the same under `tensorboard/`, without this callback.
    """

    def __init__(self, folder: str | Path, purge_step: int | None = None) -> None:
        """TensorBoard drops what other files in `folder` have from `purge_step` on."""
        self._folder, self._purge_step = Path(folder), purge_step
        self._board: Any = None
        self._modules: Any = None

    def start(self, parameters: Mapping[str, Hyperparameter]) -> None:
        self._modules = _tensorboardx()
        self._board = self._modules.SummaryWriter(str(self._folder), purge_step=self._purge_step)
        for summary in self._hparams(parameters)[:2]:
            self._board.file_writer.add_summary(summary)

    def log(self, values: Mapping[str, float], step: int) -> None:
        # One event for all: a dozen can take as long as an iteration.
        summary = self._modules.proto.summary_pb2.Summary
        scalars = [summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._board.file_writer.add_summary(summary(value=scalars), step)

    def finish(self, succeeded: bool) -> None:
        if succeeded:
            self._board.file_writer.add_summary(self._hparams({})[2])
        self._board.close()

    def _hparams(self, parameters: Mapping[str, Hyperparameter]) -> Any:
        """TensorBoard's records of hyper-parameters: the columns of its table, a run's values, and its
        success."""
        return self._modules.summary.hparams(dict(parameters), dict.fromkeys(COMPARED))


def _tensorboardx() -> Any:
    """The module tensorboardX, imported without PyTorch. It would import that where it is installed, for a
    second or two, to compare a type."""
    spared = "torch" not in sys.modules
    if spared:
        sys.modules["torch"] = None  # type: ignore[assignment] (to import it fails, and is caught)
    try:
        return import_module("tensorboardX")
    finally:
        if spared:
            del sys.modules["torch"]
