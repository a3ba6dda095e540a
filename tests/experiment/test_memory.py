"""Numbers beyond any machine are refused at once, before anything is compiled."""

from dataclasses import replace
from typing import Any

import pytest

from surefoot.baselines import Zero
from surefoot.envs.probes import ConstantReward
from surefoot.experiment import Config, Learner, memory, preset, train, train_seeds
from surefoot.experiment.memory import allow_files, check_evaluation_memory, check_memory
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.types import vector

MAML = preset("navigation-2d/maml-trpo")
PPO = preset("navigation-2d/ppo")
MOST = 2**31 - 1


class Long(ConstantReward):
    """With observations of 20,000 numbers."""

    observation_space = vector(20_000)  # pyright: ignore[reportAssignmentType]


@pytest.fixture
def gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**30)


def test_presets_fit(gib: None) -> None:
    for config in (MAML, PPO, preset("cartpole/ppo"), preset("pendulum/trpo")):
        check_memory(config)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (replace(PPO, streams=0, episodes=MOST), "--episodes or --env.horizon"),
        (replace(MAML, episodes=MOST), "--episodes or --tasks or --env.horizon"),
        (replace(MAML, algorithm=replace(MAML.algorithm, tasks=MOST)), "--tasks"),
        (replace(MAML, env=replace(MAML.env, horizon=MOST)), "--env.horizon"),
        (replace(PPO, streams=MOST, steps=MOST), "--streams or --steps"),
        (replace(PPO, evaluation=replace(PPO.evaluation, episodes=MOST)), "--evaluation.episodes"),
        (replace(PPO, evaluation=replace(PPO.evaluation, tasks=MOST)), "--evaluation.tasks"),
        (replace(PPO, policy=GaussianMLP(hidden=(MOST, MOST))), "--policy.hidden"),
    ],
)
def test_what_no_machine_holds_names_the_options_to_lower(
    config: Config, options: str, tmp_path: Any
) -> None:
    with pytest.raises(UserError, match=r"would need at least .* GiB of memory, and there are") as caught:
        train(config, tmp_path / "run")
    assert options in str(caught.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="would need at least"):
        Learner(config).train(1, progress=False)


def test_a_linear_baseline_of_a_long_observation_is_refused(gib: None) -> None:
    """A few steps of 20,000 numbers are little, but 40,004 features have as many squared products."""
    config = replace(MAML, env=Long(), policy=CategoricalMLP())
    with pytest.raises(UserError, match=r"A fit of the baseline .*use --estimation.baseline value-network"):
        check_memory(config)
    check_memory(replace(config, estimation=replace(config.estimation, baseline=Zero())))


def test_the_estimate_counts_every_array_of_the_rollouts(gib: None) -> None:
    """A step in the plane: an observation of 2, an action of 2, log-probability, reward and time of 4 bytes
    each, and three booleans."""
    bytes_of_a_step = 4 * (2 + 2 + 3) + 3
    most = 2**30 // bytes_of_a_step
    config = replace(PPO, steps=1, estimation=replace(PPO.estimation, baseline=Zero()))
    check_memory(replace(config, streams=most))
    with pytest.raises(UserError, match=r"rollouts of one iteration would need at least 1\.0 GiB"):
        check_memory(replace(config, streams=most + 1))
    with pytest.raises(UserError, match="--streams or --steps or --seeds"):
        check_memory(replace(config, streams=most), seeds=2)


def test_many_seeds_are_counted(gib: None, tmp_path: Any) -> None:
    large = replace(PPO, streams=2**20, steps=16)
    check_memory(large)
    with pytest.raises(UserError, match="--seeds"):
        train_seeds(large, 64, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_evaluation_is_estimated_too() -> None:
    options = replace(PPO.evaluation, episodes=MOST, steps=0)
    with pytest.raises(UserError, match=r"Lower --episodes or --env\.horizon"):
        check_evaluation_memory(PPO, options)
    endless = preset("atari:Pong-v5/ppo")
    with pytest.raises(UserError, match=r"Lower --evaluation\.episodes or --evaluation\.horizon"):
        check_evaluation_memory(endless, options, "--evaluation.")


def test_more_runs_than_files_may_be_open_are_refused() -> None:
    resource = pytest.importorskip("resource")
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        pytest.skip("this system has no limit")
    allow_files(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (now, most)
    with pytest.raises(UserError, match="runs hold some 5,000,000,200 files open, and this system allows"):
        allow_files(10**9)
