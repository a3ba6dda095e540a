"""Experiments whose environments are stepped on the host: MuJoCo in this process, Gymnasium in workers."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from support.dense import identical
from surefoot.experiment import Config, Evaluation, evaluate, load, preset, resume, train
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.many import resume_many, train_seeds
from surefoot.options import UserError
from surefoot.samplers import InProcess, Processes

EVALUATION = Evaluation(tasks=2, episodes=2, steps=1)


def streams(**changes: object) -> Config:
    """Two streams of a cheetah whose episodes are short."""
    config = preset("half-cheetah/trpo")
    base = replace(
        config,
        env=replace(config.env, horizon=9),
        estimation=replace(config.estimation, baseline=replace(config.estimation.baseline, minibatches=2)),
        evaluation=replace(EVALUATION, tasks=1),
        streams=2,
        steps=20,
        iterations=4,
        checkpoint_every=2,
    )
    return replace(base, **changes)


def adapting(**changes: object) -> Config:
    """Four directions of a short run."""
    config = preset("half-cheetah-dir/maml-trpo")
    algorithm = replace(config.algorithm, tasks=4)
    base = replace(
        config,
        env=replace(config.env, horizon=8),
        algorithm=algorithm,
        evaluation=EVALUATION,
        episodes=3,
        iterations=3,
        checkpoint_every=2,
    )
    return replace(base, **changes)


@pytest.mark.parametrize("config", [streams(), adapting()], ids=["streams", "adapting"])
def test_a_resumed_run_equals_an_uninterrupted_one(config: Config, tmp_path: Path):
    whole = train(config, tmp_path / "whole").run
    part = train(replace(config, iterations=2), tmp_path / "part").run
    assert part.iteration == 2
    rest = resume(tmp_path / "part", iterations=config.iterations).run
    assert identical(rest.state.learner, whole.state.learner)
    assert identical(load(tmp_path / "whole").state.learner, whole.state.learner)


def test_results_do_not_depend_on_threads(tmp_path: Path):
    one, two = (
        train(streams(sampler=InProcess(threads=n), iterations=2), tmp_path / str(n)).run.state.learner
        for n in (1, 2)
    )
    assert identical(one, two)


def test_workers_learn_what_this_process_learns(tmp_path: Path):
    here = train(adapting(), tmp_path / "here").run
    away = train(adapting(sampler=Processes(workers=2)), tmp_path / "away").run
    policies = [jax.tree.leaves(run.state.learner.policy) for run in (here, away)]
    for a, b in zip(*policies, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    judged = [evaluate(run.config, run.state.learner, 3).returns for run in (here, away)]
    np.testing.assert_allclose(*judged, atol=0.5)
    alone = train(adapting(sampler=Processes(workers=1)), tmp_path / "alone").run
    assert identical(alone.state.learner, away.state.learner)


def test_many_seeds_are_trained_in_turn_each_as_if_alone(tmp_path: Path):
    config = streams(iterations=2)
    outcome = train_seeds(config, 2, tmp_path / "many")
    assert not outcome.failed
    alone = train(replace(config, seed=1), tmp_path / "alone").run
    assert identical(outcome.runs[1].state.learner.policy, alone.state.learner.policy)
    longer = resume_many(tmp_path / "many", iterations=3)
    assert [run.iteration for run in longer.runs] == [3, 3]


def test_a_policy_adapts_to_a_task_of_its_own():
    config = adapting()
    run = evaluate(
        config, compiled_initial_state(config).learner, 0, Evaluation(tasks=3, episodes=2, steps=1)
    )
    assert run.returns.shape == (2, 3)
    assert set(np.asarray(run.tasks).tolist()) <= {-1.0, 1.0}


def test_what_does_not_fit_is_said_before_there_is_a_folder(tmp_path: Path):
    out, discrete = tmp_path / "run", preset("cartpole/ppo").policy
    for config, said in [
        (streams(policy=discrete), "categorical-mlp"),
    ]:
        with pytest.raises(UserError, match=said):
            train(config, out)
        assert not out.exists()
