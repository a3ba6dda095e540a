"""A logger for Weights & Biases."""

from collections.abc import Mapping
from typing import Any

from surefoot.experiment.loggers import AbstractLogger, Hyperparameter
from surefoot.options import import_extra


class WeightsAndBiases(AbstractLogger):
    """Logs metrics and hyper-parameters to Weights & Biases: `learner.train(callback=WeightsAndBiases())`.

    Needs the extra: `pip install 'surefoot[wandb]'`. The run begins with the first iteration and ends with
    training.
    """

    def __init__(self, project: str = "surefoot", **options: Any) -> None:
        """`options` are those of `wandb.init`, such as `name`, `config` and `mode="offline"`; what `config`
        has is logged beside the options of training. Raises `UserError` if wandb is not installed."""
        self._wandb = import_extra("wandb", "Weights & Biases needs wandb", "wandb")
        self._options = {"project": project, **options}
        self._run: Any = None

    def start(self, parameters: Mapping[str, Hyperparameter]) -> None:
        config = {**parameters, **(self._options.get("config") or {})}
        self._run = self._wandb.init(**{**self._options, "config": config})

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)
