"""The schema of `metrics.jsonl` that docs/guides/reading_a_run.md states, held against the algorithms."""

import re
from pathlib import Path

import equinox as eqx
import jax
import pytest

from surefoot.experiment import PRESETS, Learner
from surefoot.options import UserError

ALWAYS = {"return", "episode_length", "steps", "loss"}
"""Beside `iteration`, `seconds` and `steps_per_second`, which training adds."""
FAMILIES = ("bandit", "cartpole", "navigation-2d", "recall")
"""Environments in JAX whose presets have every algorithm and rule."""
NAMES = [name for name in PRESETS if name.split("/")[0] in FAMILIES]


def documented() -> set[str]:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "reading_a_run.md"
    table = guide.read_text().split("## Metrics")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_documented_and_every_iteration_has_those_that_all_have(name: str) -> None:
    """The iteration is traced, not run: its metrics' names do not depend on values."""
    try:
        learner = Learner(name)
        state = eqx.filter_eval_shape(learner.init, jax.random.key(0))
    except UserError as error:  # an extra that is not installed
        pytest.skip(str(error))
    with learner:
        _, metrics = eqx.filter_eval_shape(learner.step, state)
    names = set(metrics) - {"finite"}
    assert names >= ALWAYS
    assert names <= documented()
    assert ("return_before" in names) == learner.config.algorithm.adapts
    assert all(value.shape == () for value in metrics.values())


def test_what_training_adds_is_documented() -> None:
    assert {"seconds", "steps_per_second"} <= documented()
