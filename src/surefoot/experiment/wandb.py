"""A callback for Weights & Biases."""

import importlib
from typing import Any

from surefoot.experiment.callbacks import Event
from surefoot.options import UserError


class WeightsAndBiases:
    """Logs the metrics of every iteration to Weights & Biases: `learner.train(callback=WeightsAndBiases())`.

    Needs the extra: `pip install 'surefoot[wandb]'`. The run begins with the first iteration and ends with
    training.
    """

    def __init__(self, project: str = "surefoot", **options: Any) -> None:
        """`options` are those of `wandb.init`, such as `name`, `config` and `mode="offline"`. Raises
        `UserError` if wandb is not installed."""
        try:
            self._wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise UserError(
                f"Weights & Biases needs wandb, and importing it failed: {error}. "
                "Install it: pip install 'surefoot[wandb]'."
            ) from error
        self._options = {"project": project, **options}
        self._run: Any = None

    def __call__(self, event: Event) -> None:
        if self._run is None:
            self._run = self._wandb.init(**self._options)
        self._run.log(dict(event.metrics), step=event.iteration)

    def close(self) -> None:
        """Ends the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None
