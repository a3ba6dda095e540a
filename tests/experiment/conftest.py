"""A small experiment, trained once for all tests that only read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from surefoot.algorithms import Meta
from surefoot.experiment import Config, Evaluation, preset, train
from surefoot.experiment.run import Run

_OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_disable_most_optimizations",
)


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
def as_users_compile(cache: Path) -> Iterator[None]:
    """Many tests train the same small experiment: it is compiled once, and with all optimisations, since what
    users run is what must resume bit for bit."""
    old = {name: jax.config.values[name] for name in _OPTIONS}
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        for name, value in old.items():
            jax.config.update(name, value)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def compilation(cache: Path) -> Iterator[None]:
    """For this folder's tests alone: those of other rooms compile nothing twice."""
    with as_users_compile(cache):
        yield


@pytest.fixture(scope="session")
def config() -> Config:
    return small()


@pytest.fixture(scope="session")
def trained(config: Config, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    assert isinstance(config.algorithm, Meta)
    with as_users_compile(cache):  # a fixture of the session begins before one of a module
        return train(config, tmp_path_factory.mktemp("runs") / "trained").run
