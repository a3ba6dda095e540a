"""Experiments: configurations and presets, learners and runs, checkpoints, evaluation."""

from surefoot.experiment.callbacks import Event as Event
from surefoot.experiment.config import Config as Config, Evaluation as Evaluation
from surefoot.experiment.evaluation import EvaluationResult as EvaluationResult, evaluate as evaluate
from surefoot.experiment.learner import Learner as Learner, TrainingState as TrainingState
from surefoot.experiment.loggers import AbstractLogger as AbstractLogger
from surefoot.experiment.loop import NonFiniteError as NonFiniteError
from surefoot.experiment.many import (
    resume_many as resume_many,
    train_many as train_many,
    train_seeds as train_seeds,
)
from surefoot.experiment.mlflow import MLflow as MLflow
from surefoot.experiment.presets import PRESETS as PRESETS, preset as preset
from surefoot.experiment.reading import read_metrics as read_metrics
from surefoot.experiment.recording import Checkpoints as Checkpoints
from surefoot.experiment.run import Run as Run, load as load
from surefoot.experiment.tensorboard import TensorBoard as TensorBoard
from surefoot.experiment.training import resume as resume, train as train
from surefoot.experiment.wandb import WeightsAndBiases as WeightsAndBiases
