"""What loggers are told, and what is in their files."""

import time
from pathlib import Path

import pytest

from support.small import SMALL
from surefoot.experiment import Config, Event, Learner, MLflow, TensorBoard, WeightsAndBiases
from surefoot.experiment.callbacks import Callback, begun
from surefoot.experiment.loggers import AbstractLogger, axis, hyperparameters, tagged
from surefoot.options import UserError

ROWS = [{"steps": 64.0, "return": 1.0, "kl": float("nan")}, {"steps": 128.0, "return": 2.0, "mine": 0.5}]


def log(logger: Callback, config: Config, finite: bool = True) -> None:
    """Two iterations, without training."""
    with begun([logger], config):
        for iteration, metrics in enumerate(ROWS, 1):
            logger(Event(iteration, 2, metrics, lambda: None, finite))


def test_tags_are_in_groups() -> None:
    values = {"return": 1.0, "cg_residual": 0.5, "mine": 2.0, "kl": float("nan")}
    assert tagged(values) == {"return/return": 1.0, "trust_region/cg_residual": 0.5, "other/mine": 2.0}


def test_the_axis_counts_steps_where_they_are_known() -> None:
    assert axis(3, {"steps": 640.0}) == 640
    assert axis(3, {}) == axis(3, {"steps": None}) == axis(3, {"steps": float("nan")}) == 3


def test_hyperparameters_have_every_option_by_its_name(config: Config) -> None:
    found = hyperparameters(config)
    assert (found["algorithm"], found["algorithm.inner"], found["algorithm.tasks"]) == (
        "maml",
        "gradient-step",
        4,
    )
    assert (found["episodes"], found["policy.hidden"]) == (4, "()")


class Recorded(AbstractLogger):
    """Keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def start(self, parameters) -> None:
        self.calls.append(("start", parameters["seed"]))

    def log(self, values, step) -> None:
        self.calls.append(("log", step, values["time/iteration"]))

    def finish(self, succeeded) -> None:
        self.calls.append(("finish", succeeded))


def test_training_begins_and_ends_a_logger(config: Config) -> None:
    logger = Recorded()
    learner = Learner(config).train(2, callback=logger, progress=False)
    steps = [row["steps"] for row in learner.history]
    logs = [("log", step, i) for i, step in enumerate(steps, 1)]
    assert logger.calls == [("start", config.seed), *logs, ("finish", True)]


def test_an_error_that_ends_training_is_no_success() -> None:
    def fails(event: Event) -> None:
        raise RuntimeError("away")

    logger = Recorded()
    with pytest.raises(RuntimeError, match="away"):
        Learner(SMALL).train(1, callback=[logger, fails], progress=False)
    assert logger.calls[-1] == ("finish", False)
    try:
        raise RuntimeError("of something else")
    except RuntimeError:
        Learner(SMALL).train(1, callback=logger, progress=False)
    assert logger.calls[-1] == ("finish", True)


def test_tensorboard(config: Config, tmp_path: Path) -> None:
    log(TensorBoard(tmp_path / "logs"), config)
    (file,) = (tmp_path / "logs").iterdir()
    content = file.read_bytes()
    assert {tag in content for tag in (b"return/return", b"other/mine", b"algorithm.inner.lr")} == {True}
    assert b"kl" not in content.split(b"other/mine")[0].split(b"return/return")[-1]


def test_weights_and_biases_offline(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    log(WeightsAndBiases(mode="offline", dir=str(tmp_path), config={"mine": "my value"}), config)
    (file,) = tmp_path.rglob("*.wandb")
    wanted = (b"return/return", b"algorithm.inner.lr", b"my value")
    for _ in range(200):  # wandb's own process writes it
        if all(word in file.read_bytes() for word in wanted):
            return
        time.sleep(0.1)
    raise AssertionError("the metrics are not in the file")


@pytest.mark.parametrize("finite", [True, False])
def test_mlflow_in_a_folder(
    finite: bool, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = (tmp_path / "runs").as_uri()
    log(MLflow("mine", uri, run_name="first"), config, finite)
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED" if finite else "FAILED")
    assert run.data.params["algorithm.inner.lr"] == str(hyperparameters(config)["algorithm.inner.lr"])
    history = client.get_metric_history(run.info.run_id, "return/return")
    assert [(point.step, point.value) for point in history] == [(64, 1.0), (128, 2.0)]
    assert "policy/kl" not in run.data.metrics


def test_mlflow_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    with pytest.raises(UserError, match="Name a server"):
        MLflow(tracking_uri="nothing://here")
