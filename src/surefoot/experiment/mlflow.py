"""A logger for MLflow."""

import time
from collections.abc import Mapping
from typing import Any

from surefoot.experiment.loggers import AbstractLogger, Hyperparameter
from surefoot.options import UserError, import_extra


class MLflow(AbstractLogger):
    """Logs metrics and hyper-parameters to MLflow: `learner.train(callback=MLflow())`.

    Needs the extra: `pip install 'surefoot[mlflow]'`. That is mlflow-skinny, which logs to a server; for a
    database of your own, such as `sqlite:///mlflow.db`, install mlflow itself. The run begins with the first
    iteration and ends with training. It is a run of its own, whatever `mlflow.start_run` has opened.
    """

    def __init__(self, experiment: str = "surefoot", tracking_uri: str | None = None, **options: Any) -> None:
        """`tracking_uri` says where runs are kept; by default the environment variable MLFLOW_TRACKING_URI
        does. `options` are those of `MlflowClient.create_run`, such as `run_name` and `tags`. Raises
        `UserError` if MLflow is not installed, or cannot log there."""
        self._mlflow = import_extra("mlflow", "MLflow needs mlflow", "mlflow")
        self._experiment, self._options, self._run = experiment, options, ""
        try:
            self._client = self._mlflow.MlflowClient(tracking_uri)
        except self._mlflow.MlflowException as error:
            raise UserError(
                f"MLflow cannot log there: {error} Name a server, as in "
                'MLflow(tracking_uri="http://localhost:5000"), or install mlflow for a database of your own.'
            ) from error

    def start(self, parameters: Mapping[str, Hyperparameter]) -> None:
        client, name = self._client, self._experiment
        found = client.get_experiment_by_name(name)
        number = found.experiment_id if found else client.create_experiment(name)
        self._run = client.create_run(number, **self._options).info.run_id
        params = [self._mlflow.entities.Param(key, str(value)) for key, value in parameters.items()]
        client.log_batch(self._run, params=params)

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [self._mlflow.entities.Metric(tag, value, now, step) for tag, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, succeeded: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if succeeded else "FAILED")
