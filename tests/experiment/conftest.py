"""A small experiment, trained once for all tests that only read it."""

from dataclasses import replace

import pytest

from surefoot.algorithms import MAML
from surefoot.experiment import Config, Evaluation, preset, train
from surefoot.experiment.run import Run


def small(**changes: object) -> Config:
    """A bandit experiment of a few milliseconds an iteration."""
    config = preset("bandit/maml-trpo")
    algorithm = replace(config.algorithm, tasks=4)
    evaluation = Evaluation(tasks=3, episodes=4, steps=2)
    base = replace(
        config, algorithm=algorithm, evaluation=evaluation, episodes=4, iterations=6, checkpoint_every=2
    )
    return replace(base, **changes)


@pytest.fixture(scope="session")
def config() -> Config:
    return small()


@pytest.fixture(scope="session")
def trained(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    assert isinstance(config.algorithm, MAML)
    return train(config, tmp_path_factory.mktemp("runs") / "trained").run
