"""A small experiment, trained once for all tests that only read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import jax
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


@contextmanager
def optimised() -> Iterator[None]:
    """Compiled with all optimisations."""
    disabled = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", disabled)


@pytest.fixture(scope="module")
def as_users_compile() -> Iterator[None]:
    """What users run is what must resume bit for bit."""
    with optimised():
        yield


@pytest.fixture(scope="session")
def config() -> Config:
    return small()


@pytest.fixture(scope="session")
def trained(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    assert isinstance(config.algorithm, MAML)
    with optimised():
        return train(config, tmp_path_factory.mktemp("runs") / "trained").run
