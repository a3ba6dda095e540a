"""An exported policy equals the policy, in every form, and needs nothing of this library."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot import cli
from surefoot.algorithms import Adaptation, adapt_to_tasks
from surefoot.experiment import Learner, load
from surefoot.experiment.plain_weights import plain_weights
from surefoot.experiment.run import Run
from surefoot.networks import ACTIVATIONS
from surefoot.options import UserError
from surefoot.policies import (
    GRU,
    ActorCritic,
    CategoricalMLP,
    GaussianMLP,
    NormalisedPolicy,
    PolicyOptions,
    act,
    initial_memory,
)
from surefoot.theory.statistics import RunningStatistics
from surefoot.types import Continuous, Discrete, Rollout, image

GUIDE = (Path(__file__).parents[2] / "docs/guides/export.md").read_text()
(FORWARD,) = re.findall(r'```python title="forward.py"\n(.*?)```', GUIDE, re.DOTALL)
KEY = jax.random.key(7)
DATA = jax.random.key_data(KEY)


def exported(folder: Path, name: str = "policy.stablehlo") -> Callable[..., Any]:
    return jax.export.deserialize(bytearray((folder / name).read_bytes())).call


NAMES: dict[str, Any] = {}
exec(FORWARD, NAMES)
forward: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray] = NAMES["forward"]
"""The forward pass that the guide prints."""


@pytest.fixture(scope="module")
def normalised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Learner, Path]:
    """A Gaussian policy with normalised observations, after training, and what is exported of it."""
    sizes = {"env.horizon": 3, "policy.hidden": (5, 4), "normalisation.observations": True}
    learner = Learner("navigation-2d/reinforce", episodes=4, options=sizes)
    learner.train(1, progress=False)
    folder = tmp_path_factory.mktemp("export") / "gaussian"
    learner.export(folder)
    return learner, folder


@pytest.mark.parametrize("batch", [1, 5])
def test_a_gaussian_policy_with_normalised_observations(normalised: tuple[Learner, Path], batch: int) -> None:
    learner, folder = normalised
    assert isinstance(learner.policy, NormalisedPolicy)
    observations = 3 * jax.random.normal(KEY, (batch, 2))
    wanted, out = learner.policy(observations), exported(folder)(observations, DATA)
    np.testing.assert_allclose(out["mean"], wanted.mean, atol=1e-6)  # pyright: ignore
    np.testing.assert_allclose(out["log_std"], wanted.log_std, atol=1e-6)  # pyright: ignore
    np.testing.assert_allclose(out["action"], wanted.sample(KEY), atol=1e-6)
    np.testing.assert_array_equal(out["mode"], out["mean"])
    with np.load(folder / "weights.npz") as weights:
        means = forward(dict(weights), np.asarray(observations))
    np.testing.assert_allclose(means, out["mean"], atol=1e-6)


def test_it_acts_where_this_library_is_not(normalised: tuple[Learner, Path]) -> None:
    learner, folder = normalised
    program = f"""
import sys, jax, numpy as np
sys.modules["surefoot"] = None
policy = jax.export.deserialize(bytearray(open({str(folder / "policy.stablehlo")!r}, "rb").read()))
out = policy.call(np.ones((1, 2), np.float32), np.array([0, 7], np.uint32))
print(policy.platforms, out["action"].tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    platforms, _, action = done.stdout.strip().partition(") ")
    assert platforms == "('cpu', 'cuda'"
    np.testing.assert_allclose(json.loads(action), learner.policy(jnp.ones((1, 2))).sample(KEY), atol=1e-6)


SEEN = {"a": 2, "b": 3}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_plain_weights_of_discrete_policies(activation: Any) -> None:
    options = CategoricalMLP if activation in ("tanh", "silu") else ActorCritic
    policy = options(hidden=(4, 3), activation=activation).build(KEY, 5, Discrete(3))
    observations = jax.random.normal(KEY, (6, 5))
    logits = forward(plain_weights(policy, 5), np.asarray(observations))
    np.testing.assert_allclose(logits, policy(observations).logits, atol=1e-6)


def test_plain_weights_of_observations_in_parts() -> None:
    inner = GaussianMLP(hidden=(4,), action_scale=2.0).build(KEY, SEEN, Continuous(2))
    seen = RunningStatistics(jnp.float32(4.0), jnp.arange(2.0), jnp.ones(2))
    policy = NormalisedPolicy(inner, {"a": seen, "b": None}, 1.5)
    observations = {"a": 4 * jax.random.normal(KEY, (6, 2)), "b": 9 * jax.random.normal(KEY, (6, 3))}
    weights = plain_weights(policy, SEEN)
    flat = np.concatenate([observations["a"], observations["b"]], axis=-1)
    wanted = policy(observations)
    np.testing.assert_allclose(forward(weights, flat), wanted.mean, atol=1e-6)  # pyright: ignore
    np.testing.assert_allclose(weights["log_std"], wanted.log_std[0], atol=1e-6)  # pyright: ignore


def test_without_a_platform_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name one or more of cpu, cuda, rocm and tpu"):
        Learner("recall/ppo").export(tmp_path / "out", platforms=())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "space", "said"),
    [(GRU(units=3), 2, "GRUPolicy is no perceptron"), (CategoricalMLP(), image(3, 3, 1), "convolutional")],
)
def test_policies_without_plain_weights(options: PolicyOptions, space: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        plain_weights(options.build(KEY, space, Discrete(2)), space)


def test_a_recurrent_policy(tmp_path: Path) -> None:
    learner = Learner("recall/ppo", options={"policy.units": 3})
    said = learner.export(tmp_path / "out", platforms=("cpu",))
    assert "no perceptron" in said["weights.npz"]
    assert not (tmp_path / "out/weights.npz").exists()
    for episodes, said in ((3, "does not adapt by gradient"), (0, "episodes is 0")):
        with pytest.raises(UserError, match=said):
            learner.export(tmp_path / "other", episodes=episodes)
    assert not (tmp_path / "other").exists()
    policy, call = learner.policy, exported(tmp_path / "out")
    with np.load(tmp_path / "out/memory.npz") as first:
        memory = {name: np.broadcast_to(x, (2, *x.shape)) for name, x in first.items()}
    state = jnp.broadcast_to(initial_memory(policy), (2, 3))
    size = learner.config.env.observation_space
    for step in range(2):
        observations = jax.random.normal(
            jax.random.key(step), (2, size if isinstance(size, int) else size.shape[0])
        )
        wanted, state = act(policy, observations, state)
        out = call(observations, DATA, memory)
        memory = out["memory"]
        np.testing.assert_allclose(out["logits"], wanted.logits, atol=1e-6)  # pyright: ignore


def as_data(rollout: Rollout) -> dict[str, Any]:
    names = ("observations", "actions", "rewards", "terminated", "truncated", "valid", "final_observations")
    return {name: getattr(rollout, name)[0] for name in names}


def reached(run: Run, steps: int) -> Adaptation:
    """Adaptation to one task by this library, on rollouts of its own."""
    config, learner = run.config, run.state.learner
    setting = config.episode_setting(config.episodes)
    adapter = config.algorithm.adapter(setting.estimator, learner)
    tasks = config.env.sample_tasks(KEY, 1)
    return adapt_to_tasks(setting.sampler, adapter, learner.policy, tasks, KEY, steps)


def test_adaptation_of_maml(trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    assert cli.run(["export", str(trained.folder.path), "-o", str(folder), "--platforms", "cpu"]) == 0
    assert capsys.readouterr().out.count("export ") == 5
    adapt, call = exported(folder, "adapt.stablehlo"), exported(folder, "adapted_policy.stablehlo")
    with np.load(folder / "parameters.npz") as start:
        parameters: Any = dict(start)
    adaptation = reached(trained, 1)
    observations = jnp.ones((3, 1))
    for learners, rollout in zip(adaptation.learners, adaptation.rollouts, strict=True):
        policy = jax.tree.map(lambda x: x[0], learners[0])
        out = call(parameters, observations, DATA)
        np.testing.assert_allclose(out["logits"], policy(observations).logits, atol=1e-5)
        np.testing.assert_array_equal(out["action"], policy(observations).sample(KEY))
        parameters = adapt(parameters, as_data(rollout))
    assert parameters["steps"] == 2
    with pytest.raises(UserError, match="exists already"):
        load(trained.folder.path).export(folder)
    assert (
        json.loads((folder / "export.json").read_text())["policy.stablehlo"]["outputs"]["mode"]
        == "int32[batch]"
    )


def test_what_the_guide_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Learner("cartpole/ppo", options={"policy.hidden": (4,)}).export("exported")
    loading, comparing = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[:2]
    names = {"forward": forward}
    exec(loading, names)
    exec(comparing, names)
