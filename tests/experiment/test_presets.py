import re
from dataclasses import fields, replace
from pathlib import Path

import equinox as eqx
import pytest

from surefoot.envs import Bandit, Gymnasium, Gymnax, Trial
from surefoot.experiment import PRESETS, parts, preset
from surefoot.experiment.learner import Learner, compiled_initial_state
from surefoot.experiment.serialise import check_round_trip, load_config, save_config
from surefoot.options import Options, UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.rules import TrustRegion
from surefoot.samplers import InProcess, Processes

_GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "reading_a_run.md"
_TABLE = _GUIDE.read_text().split("## Metrics")[1].split("\n## ")[0]
_CELLS = re.findall(r"^\| (`[^|]*`) \|", _TABLE, re.MULTILINE)
EXPLAINED = {name for cell in _CELLS for name in re.findall(r"`(\w+)`", cell)}
"""The metrics that the guide has a row for: the schema of `metrics.jsonl`."""
ALWAYS = {"return", "episode_length", "steps", "loss", "entropy", "finite"}
"""Metrics of every algorithm, beside those that training adds."""
BOUNDED = ["npg", "trpo", "trpo-penalty", "ppo", "ppo-penalty", "a2c"]
PLAIN = ["reinforce", "vpg", "vpg-gae", "off-policy-reinforce"]
ASYNCHRONOUS = ["a3c", "a3c-synchronous"]
ADAPTED = ["maml-trpo", "fomaml-trpo", "promp", "e-maml-trpo", "meta-sgd-trpo", "reptile"]
GRADIENT = [*ADAPTED, "anil-trpo", "cavia-trpo"]
FAMILIES = {
    "cartpole": BOUNDED + PLAIN + ASYNCHRONOUS,
    "pendulum": BOUNDED,
    "navigation-2d": BOUNDED + PLAIN + GRADIENT,
    "inverted-pendulum": ["trpo", "ppo", *ASYNCHRONOUS],
    "half-cheetah-dir": [*GRADIENT, "rl2-ppo"],
    "half-cheetah-vel": [*GRADIENT, "rl2-ppo"],
    "bandit": [*ADAPTED, "rl2-trpo", "rl2-ppo", "rl2-ppo-long", "rl2-ppo-attention"],
    "tabular-mdp": [*GRADIENT, "rl2-trpo", "rl2-ppo", "rl2-ppo-attention"],
}


ONE_OF_EACH = list({name.partition("/")[2]: name for name in reversed(PRESETS)}.values())
"""Each algorithm on one environment."""


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ONE_OF_EACH])
def test_every_other_preset_fits_together(name: str) -> None:
    """Its policy, algorithm, sampler and estimation are built and traced; nothing is compiled or run."""
    eqx.filter_eval_shape(compiled_initial_state, PRESETS[name])


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_iteration_ends_where_the_next_can_start_and_its_metrics_are_in_the_guide(name: str) -> None:
    """The names of metrics do not depend on values."""
    learner = Learner(name)
    state = eqx.filter_eval_shape(compiled_initial_state, learner.config)
    following, metrics = eqx.filter_eval_shape(learner.step, state)
    assert metrics.keys() >= ALWAYS
    assert all(metric.shape == () for metric in metrics.values())
    assert metrics.keys() - {"finite"} <= EXPLAINED
    assert ("return_before" in metrics) == learner.config.algorithm.adapts
    assert eqx.tree_equal(following, state, typematch=True)


def test_what_training_adds_is_in_the_guide() -> None:
    assert {"seconds", "steps_per_second"} <= EXPLAINED


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_survives_the_round_trip(name: str, tmp_path: Path) -> None:
    save_config(PRESETS[name], tmp_path / "config.yaml")
    found = load_config(tmp_path / "config.yaml")
    assert found == PRESETS[name]
    assert found.preset == name
    check_round_trip(found)


def test_a_part_of_one_kind_alone_is_named_like_any_other(tmp_path: Path) -> None:
    """REINFORCE's step is no rule of one's choice."""
    path = tmp_path / "config.yaml"
    save_config(PRESETS["cartpole/reinforce"], path)
    path.write_text(path.read_text().replace("type: optax-step", "type: trust-region"))
    with pytest.raises(
        UserError, match=r"algorithm\.step is of type 'trust-region'; it must be 'optax-step'"
    ):
        load_config(path)


@pytest.mark.parametrize("family", ["cartpole", "navigation-2d"])
def test_the_vanilla_policy_gradient_has_rewards_to_go_and_its_variant_gae(family: str) -> None:
    vanilla, generalised = (PRESETS[f"{family}/{name}"] for name in ("vpg", "vpg-gae"))
    assert vanilla.estimation.credit == generalised.estimation.credit == "gae"
    assert (vanilla.estimation.gae_lambda, generalised.estimation.gae_lambda) == (1.0, 0.95)
    assert vanilla.algorithm == generalised.algorithm


def test_names_are_environment_and_algorithm() -> None:
    """A preset's environment is named as the part is, also where it is one of trials; Gymnax's and
    Gymnasium's have names of their own."""
    for name, config in PRESETS.items():
        environment, algorithm = name.split("/")
        assert algorithm
        env = config.env.env if isinstance(config.env, Trial) else config.env
        part = parts.kebab(type(env).__name__)
        if part in ("gymnax", "gymnasium"):
            assert env.name.lower().startswith(environment)
        else:
            assert part == environment == parts.name_of(env)


@pytest.mark.parametrize("environment", list(FAMILIES))
def test_the_whole_family_is_there(environment: str) -> None:
    """Of plain gradients, where they get anywhere."""
    for algorithm in FAMILIES[environment]:
        name = f"{environment}/{algorithm}"
        assert preset(name).preset == name


@pytest.mark.parametrize("method", GRADIENT[1:])
def test_methods_that_adapt_by_gradient_share_maml_s_setting(method: str) -> None:
    """On every environment: all but the algorithm, and of that the number of tasks."""
    for environment in ("navigation-2d", "half-cheetah-dir", "half-cheetah-vel", "tabular-mdp"):
        maml, other = preset(f"{environment}/maml-trpo"), preset(f"{environment}/{method}")
        assert replace(other, algorithm=maml.algorithm, preset=maml.preset) == maml
        assert other.algorithm.tasks == maml.algorithm.tasks
        if method != "cavia-trpo":  # whose inner steps change a context
            assert other.algorithm.inner == maml.algorithm.inner


def test_an_environment_alone_means_its_first() -> None:
    assert preset("navigation-2d").preset == "navigation-2d/maml-trpo"
    assert preset("cartpole").preset == "cartpole/ppo"
    assert preset("recall").preset == "recall/ppo"


@pytest.mark.parametrize(
    ("name", "message"),
    [("cartpole/pop", "Did you mean 'cartpole/ppo'"), ("cartpol", "Did you mean 'cartpole'"), ("x", "list")],
)
def test_a_name_that_is_none(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset(name)


def test_any_environment_of_gymnasium_has_presets() -> None:
    config = preset("gym:Pendulum-v1/trpo")
    assert config.env == Gymnasium("Pendulum-v1")
    assert isinstance(config.policy, GaussianMLP)
    assert isinstance(config.algorithm.rule, TrustRegion)
    assert isinstance(config.sampler, Processes)
    assert config.preset == "gym:Pendulum-v1/trpo"
    assert preset("gym:CartPole-v1").preset == "gym:CartPole-v1/ppo"
    assert isinstance(preset("gym:CartPole-v1").policy, CategoricalMLP)


def test_any_environment_of_gymnax_has_presets() -> None:
    config = preset("gymnax:Acrobot-v1/trpo")
    assert config.env == Gymnax("Acrobot-v1")
    assert isinstance(config.sampler, InProcess)
    assert isinstance(config.policy, CategoricalMLP)
    assert preset("gymnax:Pendulum-v1").preset == "gymnax:Pendulum-v1/ppo"


def test_a_class_of_ones_own_has_presets_too() -> None:
    assert preset("surefoot.envs:Bandit/ppo").env == Bandit()
    assert isinstance(preset("surefoot.envs:Bandit/ppo").sampler, InProcess)
    mine = "gymnasium.envs.classic_control:PendulumEnv"
    assert parts.make("envs", mine) == Gymnasium(mine)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gym:CartPol-v1", "Did you mean 'CartPole-v1'"),
        ("gymnax:Acrobat-v1", "gymnax has no environment 'Acrobat-v1'. Did you mean 'Acrobot-v1'"),
        ("surefoot.envs:Bandt/ppo", "has no 'Bandt'"),
        ("no_such_module:Env/ppo", "no_such_module"),
    ],
)
def test_an_environment_that_is_not_there_is_said(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        preset(name)


@pytest.mark.parametrize("kind", parts.KINDS)
def test_every_part_with_options_checks_them(kind: str) -> None:
    for cls in parts.parts(kind).values():
        assert issubclass(cls, Options) or not fields(cls), f"{cls.__name__} does not derive from Options"
