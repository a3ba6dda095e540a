"""Experiments: configurations and presets, the training loop, checkpoints, evaluation."""

from surefoot.experiment.config import Config as Config, Evaluation as Evaluation
from surefoot.experiment.evaluation import evaluate as evaluate
from surefoot.experiment.presets import PRESETS as PRESETS, preset as preset
from surefoot.experiment.run import Run as Run, load as load
from surefoot.experiment.training import resume as resume, train as train
