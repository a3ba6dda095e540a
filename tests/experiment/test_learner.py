"""Training in memory, and what becomes of it on disk."""

import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.dense import assert_same
from support.gymnasium_envs import Memory
from support.small import SMALL
from surefoot.algorithms import MAML, Estimation, SingleTask
from surefoot.baselines import Zero
from surefoot.envs import AbstractEnv, Bandit, Gymnasium, Step
from surefoot.experiment import (
    Checkpoints,
    Config,
    Event,
    Learner,
    NonFiniteError,
    load,
    preset,
    resume,
    train,
)
from surefoot.experiment.folder import locked
from surefoot.experiment.loop import warn_of_settings
from surefoot.experiment.metrics import read_metrics
from surefoot.experiment.run import Run, locked_run
from surefoot.options import UserError
from surefoot.policies import ActorCritic, CategoricalMLP, GaussianMLP, PolicyOptions
from surefoot.rules import GradientStep, PPOClip, TrustRegion
from surefoot.samplers import InProcess, Processes
from surefoot.types import MultiDiscrete, vector


@pytest.fixture(scope="module")
def learner(config: Config) -> Learner:
    """Six iterations, in two parts."""
    return Learner(config).train(2, progress=False).train(4, progress=False)


def test_it_learns_what_a_run_learns(learner: Learner, trained: Run) -> None:
    assert_same(learner.state, trained.state)
    rows = [{k: v for k, v in row.items() if "second" not in k} for row in learner.history]
    kept = [
        {k: v for k, v in row.items() if "second" not in k} for row in read_metrics(trained.folder.metrics)
    ]
    assert rows == kept


def test_a_callback_sees_every_iteration_and_may_stop(config: Config) -> None:
    seen: list[Event] = []

    def callback(event: Event) -> bool:
        seen.append(event)
        return event.iteration == 2

    learner = Learner(config).train(5, callback=callback, progress=False)
    assert [(event.iteration, event.total) for event in seen] == [(1, 5), (2, 5)]
    assert learner.iteration == 2
    assert seen[-1].state is learner.state
    assert {"return", "loss", "seconds"} <= seen[0].metrics.keys()
    assert str(seen[0]).startswith("iteration 1/5  return ")


def test_saved_it_is_a_run_that_goes_on_as_if_it_had_not_stopped(
    config: Config, trained: Run, tmp_path: Path
) -> None:
    learner = Learner(replace(config, iterations=2)).train(progress=False)
    learner.save(tmp_path / "run")
    found = load(tmp_path / "run")
    assert_same(found.state, learner.state)
    further = found.train(4, progress=False)
    assert_same(further.state, trained.state)
    assert [row["iteration"] for row in read_metrics(further.folder.metrics)] == [1, 2, 3, 4, 5, 6]
    assert load(tmp_path / "run").config.iterations == 6
    with pytest.raises(UserError, match="exists already"):
        learner.save(tmp_path / "run")


def test_checkpoints_of_training_in_memory_are_a_run(config: Config, trained: Run, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "run", every=2)
    learner = Learner(config).train(3, callback=kept, progress=False)
    assert load(tmp_path / "run").iteration == 3
    learner.train(1, callback=kept, progress=False)
    run = resume(tmp_path / "run").run
    assert [row["iteration"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    assert [file.stem for file in run.folder.checkpoints()][:3] == ["000002", "000003", "000004"]
    assert run.iteration == trained.iteration
    with pytest.raises(UserError, match="exists already"):
        Learner(config).train(1, callback=Checkpoints(tmp_path / "run"), progress=False)


def test_a_callback_uses_the_learner_as_it_is_by_then() -> None:
    learner, seen, events = Learner(SMALL), [], []
    learner.train(3, callback=[events.append, lambda _: seen.append(learner.iteration)], progress=False)
    assert seen == [1, 2, 3]
    assert [int(event.state.iteration) for event in events] == [1, 2, 3], "each has its own state"


def test_an_error_in_a_callback_keeps_the_learner_where_it_was() -> None:
    def fail(event: Event) -> None:
        if event.iteration == 2:
            raise RuntimeError("the server is away")

    learner = Learner(SMALL)
    with pytest.raises(RuntimeError, match="away"):
        learner.train(3, callback=fail, progress=False)
    assert learner.iteration == len(learner.history) == 2


def test_every_callback_is_closed() -> None:
    closed = []

    class Fails:
        def __call__(self, event: Event) -> None: ...

        def close(self) -> None:
            closed.append(self)
            raise RuntimeError("cannot be closed")

    with pytest.raises(RuntimeError, match="cannot be closed"):
        Learner(SMALL).train(1, callback=[Fails(), Fails()], progress=False)
    assert len(closed) == 2


def test_checkpoints_keep_one_learner_s_training(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "run")
    Learner(SMALL).train(2, callback=kept, progress=False)
    with pytest.raises(UserError, match="this one is with other options or another seed"):
        Learner(replace(SMALL, seed=1)).train(1, callback=kept, progress=False)
    with pytest.raises(UserError, match="this one is at iteration 1, and this run ends at 2"):
        Learner(SMALL).train(1, callback=kept, progress=False)
    run = load(tmp_path / "run")
    assert run.iteration == 2
    learner = Learner(SMALL)
    learner.state = run.state
    with locked(run.folder), pytest.raises(UserError, match="Another process is training"):
        learner.train(1, callback=kept, progress=False)
    assert learner.iteration == 2, "nothing is trained that could not be kept"
    learner.train(1, callback=kept, progress=False)
    assert load(tmp_path / "run").iteration == 3


def test_checkpoints_leave_nothing_where_nothing_was_trained(tmp_path: Path) -> None:
    kept, taken = Checkpoints(tmp_path / "run"), tmp_path / "taken"
    taken.mkdir()
    learner = Learner(SMALL)
    with pytest.raises(UserError, match="exists already"):
        learner.train(1, callback=[kept, Checkpoints(taken)], progress=False)
    assert not (tmp_path / "run").exists()
    learner.train(1, callback=kept, progress=False)
    assert load(tmp_path / "run").iteration == 1
    with pytest.raises(UserError, match="this one is at iteration 2, and this run ends at 0"):
        learner.train(1, callback=Checkpoints(tmp_path / "late"), progress=False)
    assert not (tmp_path / "late").exists()


def test_a_callback_that_cannot_begin_ends_those_that_have() -> None:
    seen = []

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        def begin(self, _: Config) -> None:
            seen.append(f"begin {self.name}")
            if self.name == "second":
                raise RuntimeError("cannot begin")

        def __call__(self, event: Event) -> None: ...

        def close(self) -> None:
            seen.append(f"close {self.name}")

    with pytest.raises(RuntimeError, match="cannot begin"):
        Learner(SMALL).train(1, callback=[Told("first"), Told("second"), Told("third")], progress=False)
    assert seen == ["begin first", "begin second", "close first"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_its_effect_when_the_iteration_is_done(number: signal.Signals, tmp_path: Path) -> None:
    """A script does not go on as if training were complete."""

    class TerminatedError(Exception): ...

    def end(*_: Any) -> None:
        raise TerminatedError

    def ask(event: Event) -> None:
        if event.iteration == 2:
            signal.raise_signal(number)
            time.sleep(0.5)  # until the thread has heard it

    effects = {signal.SIGTERM: end, signal.SIGINT: signal.default_int_handler}  # ignored in the background
    before = {one: signal.signal(one, effect) for one, effect in effects.items()}
    wanted = KeyboardInterrupt if number == signal.SIGINT else TerminatedError
    try:
        learner = Learner(SMALL)
        with pytest.raises(wanted):
            learner.train(5, callback=ask, progress=False)
        assert learner.iteration == 2
        learner.save(tmp_path / "run")
        with pytest.raises(wanted):
            load(tmp_path / "run").train(1, callback=lambda _: signal.raise_signal(number), progress=False)
    finally:
        for one, effect in before.items():
            signal.signal(one, effect)
    assert load(tmp_path / "run").iteration == 3


def test_a_run_that_was_trained_further_is_not_trained_from_where_it_was(
    tmp_path: Path,
) -> None:
    run = train(replace(SMALL, iterations=6), tmp_path / "run").run
    run.train(1, progress=False)
    late = "after iteration 6, and it has been trained to iteration 7"
    with pytest.raises(UserError, match=late):
        run.train(1, progress=False)
    with pytest.raises(UserError, match=late), locked_run(replace(run, config=replace(run.config, seed=9))):
        pass
    assert load(run.folder.path).config == replace(run.config, iterations=7), "nothing is written"
    with pytest.raises(UserError, match="iterations is -5; it must be a whole number, 0 or more"):
        load(run.folder.path).train(-5)
    assert load(run.folder.checkpoint(6)).train(2, progress=False).iteration == 8


def test_numpy_s_true_stops_training_too() -> None:
    learner = Learner(SMALL).train(3, callback=lambda event: np.bool_(event.iteration == 1), progress=False)
    assert learner.iteration == 1


def test_a_rate_that_has_come_to_zero_is_warned_of() -> None:
    learner = Learner("cartpole/ppo", iterations=480)
    assert learner.config.algorithm.rule.decay_steps == 480, "the preset's rate ends with the preset's run"
    other = Learner("cartpole/ppo", options={"rule.lr": 1e-3, "iterations": 200})
    assert other.config.algorithm.rule.decay_steps == 200, "whatever else of the rule is set"
    assert other.iteration == 0

    class Fails:
        def begin(self, config: Config) -> None:
            raise RuntimeError(f"the rate ends at {config.algorithm.rule.decay_steps}")

        def __call__(self, event: Event) -> None: ...

    with pytest.raises(RuntimeError, match="ends at 2"):  # with the first training, also if it was looked at
        other.train(2, callback=Fails())
    own = Learner("cartpole/ppo", options={"rule.decay-steps": 1})
    warned = r"is 0 from iteration 2 on, and training ends at 2: .*decay-steps 2"
    with pytest.warns(RuntimeWarning, match=warned), pytest.raises(RuntimeError, match="ends at 1"):
        own.train(2, callback=Fails())


@pytest.mark.parametrize(
    ("actions", "std", "told"),
    [
        ("clipped", 1.0, None),
        ("clipped", 4.0, "clips 62% of a new policy's actions: component 0"),
        ("scaled", 4.0, None),
        ("clipped", 40.0, "clips 62% of a new policy's actions: component 0"),
    ],
)
def test_actions_that_the_bounds_would_clip_are_warned_of(actions: Any, std: float, told: str | None) -> None:
    env = Gymnasium("Pendulum-v1", actions=actions)  # −2 … 2
    scale = 0.1 if std == 40.0 else 1.0
    config = replace(preset("pendulum/ppo"), env=env, policy=GaussianMLP(initial_std=std, action_scale=scale))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_settings(config, 1)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == (told is not None)
    assert told is None or (told in messages[0] and "the bounds are -2 and 2" in messages[0])


def test_a_failing_callback_loses_nothing(tmp_path: Path) -> None:
    def fails(event: Event) -> None:
        if event.iteration == 3:
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        train(replace(SMALL, checkpoint_every=100), tmp_path / "run", callbacks=[fails])
    kept = load(tmp_path / "run")
    assert kept.iteration == 3
    assert [row["iteration"] for row in read_metrics(kept.folder.metrics)] == [1, 2, 3]


def test_a_step_can_be_vmapped_over_seeds(config: Config) -> None:
    learner = Learner(config)

    @jax.jit
    @jax.vmap
    def returns(seed: jax.Array) -> jax.Array:
        state = learner.init(jax.random.key(seed))
        return learner.step(state)[1]["return"]

    both = returns(jnp.array([config.seed, 7]))
    (first,) = Learner(config).train(1, progress=False).history
    assert both[0] == pytest.approx(first["return"], rel=1e-5)
    assert both[0] != both[1]


def test_parts_are_put_together() -> None:
    meta = Learner(env=Bandit(), algorithm=MAML(GradientStep(0.5), TrustRegion(max_kl=0.02)), episodes=4)
    assert meta.config.policy == CategoricalMLP()
    assert meta.config.episodes == 4
    named = Learner("navigation-2d/trpo", seed=3, options={"rule.max-kl": 0.5, "estimation.discount": 0.5})
    assert (named.config.seed, named.config.algorithm.rule.max_kl) == (3, 0.5)
    assert named.config.estimation.discount == 0.5
    assert isinstance(named.config.policy, GaussianMLP)


def test_a_gymnasium_environment_as_it_is_made(tmp_path: Path) -> None:
    made = Learner(
        env=lambda: gymnasium.make("CartPole-v1", max_episode_steps=20), algorithm="trpo", episodes=4
    )
    with made as learner:
        learner.train(1, progress=False)
        assert learner.config.env.horizon == 20
        assert learner.evaluate(episodes=2).returns.shape == (1, 1)
        with pytest.raises(UserError, match=r"env\.make is .*which config\.yaml cannot hold"):
            learner.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, r"<lambda>\(\) gave None; it must make an environment"),
        (lambda: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_a_function_that_makes_no_environment_is_one_message(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Learner(env=make, algorithm="ppo")


def test_an_environment_s_class_is_sampled_in_workers() -> None:
    parts: dict[str, Any] = {
        "env": Memory,
        "algorithm": "ppo",
        "policy": "categorical-mlp",
        "sampler": Processes(workers=1),
    }
    made = Learner(**parts, streams=2, steps=32)
    with made as learner:
        assert learner.train(1, progress=False).iteration == 1


@pytest.mark.as_users
@pytest.mark.skipif("SUREFOOT_TEST_AS_USERS" not in os.environ, reason="wrong types: run by test_as_users.py")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": -1}, "steps is -1"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"episodes": 0}, "episodes is 0"),
        ({"key": 0}, "key is 0"),
    ],
)
def test_an_adaptation_that_makes_no_sense_is_refused(options: dict, said: str, config: Config) -> None:
    (task,) = config.env.sample_tasks(jax.random.key(0), 1)
    with pytest.raises(UserError, match=said):
        Learner(config).adapt(task, **options)


def test_no_more_iterations_change_nothing() -> None:
    learner = Learner(SMALL)
    assert learner.train(0).iteration == 0


def test_iterations_that_were_done_twice_are_saved_once(tmp_path: Path) -> None:
    learner = Learner(SMALL).train(1, progress=False)
    earlier = learner.state
    learner.train(2, progress=False)
    learner.state = earlier
    learner.train(1, progress=False).save(tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [1, 2]
    assert load(tmp_path / "run").iteration == 2


def test_what_is_saved_begins_where_nothing_is_missing(tmp_path: Path) -> None:
    learner = Learner(SMALL).train(1, progress=False)
    learner.state = learner.step(learner.state)[0]
    learner.save(tmp_path / "first")
    assert read_metrics(tmp_path / "first" / "metrics.jsonl") == []
    learner.train(2, progress=False).save(tmp_path / "second")
    assert [row["iteration"] for row in read_metrics(tmp_path / "second" / "metrics.jsonl")] == [3, 4]
    assert resume(tmp_path / "second", iterations=5).run.iteration == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "needs a preset, a configuration or an environment"),
        ({"experiment": "cartpole/pppo"}, "There is no preset 'cartpole/pppo'"),
        ({"env": Bandit(), "algorithm": "trpoo"}, "There is no algorithm 'trpoo'.* Did you mean 'trpo'"),
        ({"experiment": "bandit", "options": {"outer.maxkl": 1}}, "has no option outer.maxkl"),
        ({"experiment": "bandit", "options": {"outer.max-kl.x": 1}}, "float has no option outer.max-kl.x"),
        ({"experiment": "bandit", "iterations": 0}, "iterations is 0; it must be 1 or more"),
    ],
)
def test_what_does_not_exist_is_named(arguments: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Learner(**arguments)


def test_one_task_is_not_called_many() -> None:
    """A policy that does not adapt is evaluated on its own task, however many are asked for."""
    learner = Learner("bandit/trpo", episodes=4)
    result = learner.evaluate(5, episodes=3)
    assert "15 episodes" in str(result)
    assert "tasks" not in str(result)
    assert result.episode_returns.shape == (1, 1, 15)
    assert result.summary()["tasks"] == 1


class Overflows(Bandit):
    """Pays what is not finite."""

    def step(self, key: Any, state: Any, action: Any, task: Any) -> Step:
        step = super().step(key, state, action, task)
        return Step(step.state, step.observation, jnp.log(jnp.zeros(())), step.terminated)


def test_returns_that_are_not_finite_are_one_message() -> None:
    with pytest.raises(UserError, match=r"episode 0 of task 0 after 0 steps .* return -inf"):
        Learner("bandit/trpo", env=Overflows(), episodes=4).evaluate()


def test_numbers_of_an_evaluation(learner: Learner) -> None:
    result = learner.evaluate(2, episodes=3, steps=1, seed=5)
    assert result.episode_returns.shape == (2, 2, 3)
    np.testing.assert_allclose(result.returns, result.episode_returns.mean(axis=-1))
    assert "2 tasks, 3 episodes a step" in str(result)


@dataclass(frozen=True)
class Lock(AbstractEnv):
    """Pays for each of two integers that is what the observation says; one step an episode."""

    horizon: int = 1
    observation_space = 1
    action_space = MultiDiscrete((2, 3))
    time_limit_ends_return = True

    def sample_tasks(self, key, n):
        return jnp.zeros((n, 0))

    def reset(self, key, task):
        side = jax.random.bernoulli(key).astype(float)
        return side, side[None]

    def step(self, key, state, action, task):
        wanted = jnp.stack([state, 2.0 - state]).astype(jnp.int32)
        return Step(state, state[None], jnp.mean(action == wanted), jnp.zeros((), bool))


@pytest.mark.parametrize("policy", [CategoricalMLP(hidden=(16,)), ActorCritic(hidden=(16,))])
def test_several_discrete_actions_are_learned(policy: PolicyOptions) -> None:
    algorithm = "trpo" if isinstance(policy, CategoricalMLP) else SingleTask(PPOClip(lr=0.01))
    options = {"episodes": 64, "estimation": Estimation(baseline=Zero())}
    learner = Learner(env=Lock(), algorithm=algorithm, policy=policy, **options)
    learner.train(25, progress=False)
    assert learner.evaluate(episodes=200, deterministic=True).returns[0, 0] == 1.0


def test_rewards_of_an_astronomic_scale_are_warned_of() -> None:
    env = Gymnasium("support.careless_envs:PaysAstronomically", time_limit=3)
    learner = Learner(env=env, algorithm="trpo", sampler=InProcess(), episodes=32)
    warned = pytest.warns(RuntimeWarning, match=r"return is of the order of \de\+2\d.* a scale near 1")
    with warned, pytest.raises(NonFiniteError):
        learner.train(1, progress=False)


@pytest.mark.as_users
@pytest.mark.skipif("SUREFOOT_TEST_AS_USERS" not in os.environ, reason="wrong types: run by test_as_users.py")
def test_arguments_may_be_a_mapping_in_a_file_and_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sized.py").write_text(
        "import gymnasium\n"
        "class Sized(gymnasium.Env):\n"
        "    def __init__(self, size=2, name=''):\n"
        "        self.observation_space = gymnasium.spaces.Box(-1, 1, (size,))\n"
        "        self.action_space = gymnasium.spaces.Discrete(2)\n"
        "gymnasium.register('Sized-v0', Sized)\n"
    )
    monkeypatch.chdir(tmp_path)
    given: Any = {"size": 3, "name": "a: b"}
    env = Gymnasium("sized:Sized-v0", kwargs=given, time_limit=5)
    assert env.observation_space == vector(3), "and the module beside the user is found"
    assert env == Gymnasium("sized:Sized-v0", kwargs=env.kwargs, time_limit=5)
