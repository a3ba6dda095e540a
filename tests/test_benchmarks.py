"""The benchmarks name functions of the library, which must be there."""

import importlib
import sys
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_every_function_that_is_timed_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    parts = resolve_name("iteration_surefoot:PARTS")
    assert len(parts) > 10
    for target in parts:
        if not target.startswith("mujoco."):
            assert callable(resolve_name(target))
    for name in ("iteration_surefoot", "iteration_problem"):
        sys.modules.pop(name)


@pytest.mark.parametrize("env", ["bandit", "tabular-mdp", "navigation-2d"])
def test_every_meta_method_is_given_the_same_steps_and_tasks(
    env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("surefoot.samplers.host_runner.disable_async_dispatch", lambda: None)
    benchmark = importlib.import_module("meta_family")
    options = benchmark.Options(Path("out"), env=env, steps=4_000_000)
    for method in benchmark.methods_of(options):
        config = benchmark.config_of(options, method)
        trials = config.env.trial_episodes
        episodes = config.episodes * (1 if trials else config.algorithm.inner_steps + 1)
        steps = config.iterations * config.algorithm.tasks * episodes * config.env.horizon
        assert 0.97 < steps / options.steps <= 1.0, method
        assert config.evaluation.tasks == options.tasks
        assert config.evaluation.seed == benchmark.config_of(options, "maml-trpo").evaluation.seed
    for name in ("meta_family", "family"):
        sys.modules.pop(name)


def test_an_iteration_of_rl2_has_the_steps_that_its_speed_is_computed_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    problems, side = importlib.import_module("rl2_problem"), importlib.import_module("rl2_surefoot")
    for problem in problems.QUICK.values():
        ours = side.Side(problem)
        assert 0.0 <= ours.iterate(1) <= problem.pulls
        assert float(ours.metrics["steps"]) == problem.steps
    for name in ("rl2_problem", "rl2_surefoot"):
        sys.modules.pop(name)


def test_the_noise_of_a_gradient_is_relative_to_its_true_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("surefoot.samplers.host_runner.disable_async_dispatch", lambda: None)
    benchmark = importlib.import_module("meta_gradient_noise")
    normal = np.random.default_rng(0).normal(size=(10, 100_000))
    # A norm of 1 in each of 100,000 directions, and a standard deviation of 3 in each.
    assert benchmark.relative_deviation(1.0 + 3.0 * normal) == pytest.approx(3.0, rel=0.02)
    assert benchmark.relative_deviation(normal - normal.mean(axis=0)) == np.inf
    sys.modules.pop("meta_gradient_noise")
