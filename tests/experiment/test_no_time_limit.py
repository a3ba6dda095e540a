"""Environments without any time limit: streams train on them, and an evaluation cuts its episodes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import identical
from surefoot.algorithms import Estimation
from surefoot.baselines import TimeDependent
from surefoot.checks import check_env
from surefoot.envs import AbstractEnv, Gymnasium, Step, Trial
from surefoot.experiment import Config, Evaluation, Learner, preset, resume, train
from surefoot.experiment.presets import with_options
from surefoot.options import UserError
from surefoot.policies import GaussianMLP
from surefoot.samplers import InProcess, Processes, ScanSampler
from surefoot.theory.objectives import PolicyObjective
from surefoot.types import Continuous, vector

ENDLESS = Gymnasium("support.gymnasium_envs:Endless")
EVALUATION = Evaluation(tasks=1, episodes=2, steps=0, horizon=30)


@dataclass(frozen=True)
class Drifting(AbstractEnv):
    """A point that is pushed for ever."""

    horizon: int = 0
    observation_space = vector(1)
    action_space = Continuous(1)
    time_limit_ends_return = False

    def sample_tasks(self, key: Any, n: int) -> Any:
        return jax.random.uniform(key, (n,))

    def reset(self, key: Any, task: Any) -> Any:
        start = jax.random.normal(key, (1,))
        return start, start

    def step(self, key: Any, state: Any, action: Any, task: Any) -> Step:
        now = 0.9 * state + 0.1 * action
        return Step(now, now, -jnp.abs(now[0] - task), jnp.array(False))


def config(env: Any = ENDLESS, **changes: Any) -> Config:
    base = replace(
        preset("pendulum/ppo"),
        env=env,
        policy=GaussianMLP(hidden=(4,)),
        estimation=Estimation(fit="previous-batch"),
        evaluation=EVALUATION,
        sampler=InProcess(),
        streams=2,
        steps=100,
        iterations=4,
        checkpoint_every=2,
    )
    return with_options(replace(base, **changes), {"rule.minibatches": 2, "rule.epochs": 1})


@pytest.mark.parametrize("sampler", [InProcess(), Processes(workers=2)], ids=["in-process", "processes"])
def test_a_resumed_run_equals_an_uninterrupted_one(sampler: Any, tmp_path: Path):
    """An episode of 400 steps with 8 actions each does not fit into the first width of what is saved."""
    whole = train(config(sampler=sampler), tmp_path / "whole").run
    train(config(sampler=sampler, iterations=2), tmp_path / "part")
    rest = resume(tmp_path / "part", iterations=4).run
    assert identical(rest.state.learner, whole.state.learner)
    begun, saved = whole.state.learner.own.sampler.env_state
    assert begun
    assert saved.shape == (2, 4096)
    assert np.array_equal(whole.state.learner.own.sampler.times, [400, 400])
    result = whole.evaluate()
    assert result.rollouts[0].valid.shape[-1] == result.summary()["cut"] == 30
    assert "cut after 30 steps (no time limit)" in str(result)


def test_learning_is_compiled_once_while_saved_episodes_grow(monkeypatch: pytest.MonkeyPatch):
    traced = []
    predict = PolicyObjective.predict
    monkeypatch.setattr(PolicyObjective, "predict", lambda *of: traced.append(len(traced)) or predict(*of))
    with Learner(config(steps=50)) as learner:
        widths, counts = [], []
        for _ in range(4):
            learner.train(1, progress=False)
            widths.append(learner.state.learner.own.sampler.env_state[1].shape[1])
            counts.append(len(traced))
    assert widths[0] < widths[-1], "what is saved has grown"
    assert counts[0] > 0
    assert counts[-1] == counts[0]


def test_in_jax_too():
    with Learner(config(Drifting())) as learner:
        learner.train(2, progress=False)
        assert -1 < learner.history[-1]["mean_reward"] < 0
        assert np.array_equal(learner.state.learner.own.sampler.times, [200, 200])
        assert learner.evaluate().rollouts[0].valid.sum(-1).tolist() == [[30, 30]]
    assert [problem for problem in check_env(Drifting()) if problem.severity == "error"] == []


@pytest.mark.parametrize(
    ("env", "told"), [(ENDLESS, "--env.time-limit STEPS"), (Drifting(), "--env.horizon STEPS")]
)
def test_whole_episodes_are_refused(env: Any, told: str, tmp_path: Path):
    with pytest.raises(UserError, match=f"states no time limit.*{told}, or .*--streams"):
        train(config(env, streams=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_else_needs_a_limit_is_refused():
    with pytest.raises(UserError, match=r"set --env\.env\.horizon"):
        _ = Trial(Drifting()).horizon
    with pytest.raises(UserError, match="no time limit"):
        ScanSampler(Drifting(), 1)
    with pytest.raises(UserError, match="these episodes have no time limit"):
        Learner(config(estimation=Estimation(TimeDependent(), fit="previous-batch"))).init()


def test_an_evaluation_must_be_able_to_cut():
    @dataclass(frozen=True)
    class Unset(AbstractEnv):
        observation_space, action_space, horizon = vector(1), Continuous(1), 0
        time_limit_ends_return = False
        sample_tasks, reset, step = Drifting.sample_tasks, Drifting.reset, Drifting.step

    with pytest.raises(UserError, match="a field `horizon`, 0 for no limit"):
        _ = config(Unset()).episodic_env
