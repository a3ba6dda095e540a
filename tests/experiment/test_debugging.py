"""Training under JAX's debugging flags: no NaN and no infinity of ours stands for something else."""

import math
from dataclasses import replace

import jax
import pytest

from surefoot.algorithms import Estimation
from surefoot.baselines import Zero
from surefoot.experiment import Config, Learner, preset
from surefoot.experiment.presets import with_options

SMALL = with_options(
    replace(preset("cartpole/ppo"), estimation=Estimation(Zero(), fit="same-batch"), streams=2, steps=4),
    {"policy.hidden": (4,), "rule.minibatches": 2, "rule.epochs": 1},
)
META = with_options(
    preset("navigation-2d"),
    {"policy.hidden": (4,), "env.horizon": 4, "algorithm.tasks": 2, "episodes": 2},
)


@pytest.mark.parametrize("config", [SMALL, META], ids=["streams", "meta"])
def test_a_run_has_no_nan_and_no_infinity(config: Config) -> None:
    with jax.debug_nans(True), jax.debug_infs(True), Learner(config) as learner:
        learner.train(2, progress=False)
    known = [all(map(math.isfinite, row.values())) for row in learner.history]
    assert known == [config is META] * 2


def test_before_an_episode_ends_its_return_is_unknown_on_the_host_alone() -> None:
    """A pole falls after nine steps or more."""
    with Learner(SMALL) as learner:
        _, metrics = jax.jit(learner.step)(learner.init())
        assert (metrics["return"], metrics["episode_length"]) == (0, 0)
        learner.train(1, progress=False)
    (row,) = learner.history
    assert math.isnan(row["return"])
    assert math.isnan(row["episode_length"])
