"""From the seed to the trained policy, all in one compiled program."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jaxtyping import Array, Int

from surefoot.experiment import PRESETS, Config, preset
from surefoot.experiment.learner import Learner, TrainingState, compiled_initial_state
from surefoot.rules.base import Metrics

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "one_program.md"
MINATAR = {"asterix", "breakout", "freeway", "seaquest", "spaceinvaders"}
IN_JAX = {"cartpole", "pendulum", "navigation-2d", "recall", "bandit", "tabular-mdp"} | {
    f"{game}-minatar" for game in MINATAR
}
ON_THE_HOST = {"cartpole/a3c", "cartpole/a3c-synchronous"}
FAMILY = [
    "cartpole/trpo",
    "cartpole/npg",
    "cartpole/reinforce",
    "cartpole/off-policy-reinforce",
    "cartpole/a2c",
]
SAMPLE = [
    *FAMILY,
    *(preset(environment).preset for environment in sorted(IN_JAX) if "-minatar" not in environment),
]
"""One algorithm on each environment, and those of other kinds on one."""


def training(config: Config) -> Callable[[Int[Array, ""] | int], tuple[TrainingState, Metrics]]:
    learner = Learner(config)

    def whole(seed: Int[Array, ""] | int) -> tuple[TrainingState, Metrics]:
        start = learner.init(jax.random.key(seed))
        return jax.lax.scan(lambda state, _: learner.step(state), start, length=config.iterations)

    return whole


def test_these_are_all_that_are_written_in_jax() -> None:
    found = {name for name, config in PRESETS.items() if config.setting().sampler.traceable}
    assert found == {name for name in PRESETS if name.split("/")[0] in IN_JAX} - ON_THE_HOST


@pytest.mark.parametrize("name", SAMPLE)
def test_the_host_has_no_part_in_it(name: str) -> None:
    assert "callback" not in str(jax.make_jaxpr(training(PRESETS[name]))(0))


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
def test_it_learns_what_the_command_learns(algorithm: str) -> None:
    """On a CPU the command has several programs for the first, which round differently."""
    config = replace(preset(f"cartpole/{algorithm}"), iterations=2, episodes=4)
    config = replace(config, streams=config.streams and 2, steps=config.steps and 64)
    trained, metrics = jax.jit(training(config))(config.seed)
    state = compiled_initial_state(config)
    iterate = Learner(config).compile(state)
    for i in range(config.iterations):
        state, want = iterate(state)
        for name, value in want.items():
            np.testing.assert_allclose(metrics[name][i], value, rtol=1e-3, atol=1e-5, err_msg=name)
    for got, parameter in zip(
        jax.tree.leaves(trained.learner.policy), jax.tree.leaves(state.learner.policy), strict=True
    ):
        np.testing.assert_allclose(got, parameter, rtol=1e-3, atol=1e-5)


def test_the_guide_s_program_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    small = replace(PRESETS["cartpole/trpo"], streams=2, steps=128, iterations=2)
    monkeypatch.setitem(PRESETS, "cartpole/trpo", small)
    exec(program, {})
    assert "of each seed: [" in capsys.readouterr().out
