"""Names of other libraries: the command line says what they are called here."""

from dataclasses import fields, replace
from typing import Any

import pytest

from surefoot import cli
from surefoot.cli import foreign
from surefoot.cli.options import SWAPS
from surefoot.cli.training import _Train  # pyright: ignore[reportPrivateUsage]
from surefoot.experiment import PRESETS, parts
from surefoot.rules import AbstractRule


class Bare(AbstractRule):
    """A rule that is no dataclass."""

    def init(self, policy: Any) -> None: ...

    def step(self, objective: Any, policy: Any, batch: Any, state: None) -> Any: ...


def test_every_option_that_is_named_exists_for_some_preset() -> None:
    own = {field.name for field in fields(_Train)}
    for name, options in foreign.OPTIONS.items():
        assert name not in own | SWAPS.keys()
        for option in options.split():
            names = option, option.replace("outer.", "rule.")  # no preset's outer rule has all of them
            found = any(foreign.has_option(config, one) for config in PRESETS.values() for one in names)
            assert option in own or found, option


def test_an_option_that_a_preset_has_is_its_own() -> None:
    for config in PRESETS.values():
        own = [f"--{name}" for name in foreign.OPTIONS if foreign.has_option(config, name)]
        foreign.refuse_foreign_options(own, config)


def test_a_rule_without_options_has_none() -> None:
    config = PRESETS["cartpole/ppo"]
    bare = replace(config, algorithm=replace(config.algorithm, rule=Bare()))  # type: ignore[type-var]
    assert not foreign.has_option(bare, "rule.lr")


def test_every_environment_that_is_named_has_presets_and_every_part_exists() -> None:
    environments = {name.split("/")[0] for name in PRESETS}
    assert {*foreign.GYMNASIUM.values(), *foreign.FAMILIES.values()} <= environments
    assert not (foreign.GYMNASIUM.keys() | foreign.FAMILIES.keys()) & environments
    for words in foreign.PARTS.values():
        options = words.split()
        for option, name in zip(options[::2], options[1::2], strict=True):
            parts.make(SWAPS[option.removeprefix("--")], name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["CartPole-v1"],
            "Here it is surefoot train cartpole/ppo, or gym:CartPole-v1/ppo for Gymnasium's own.",
        ),
        (["Acrobot-v1"], "Gymnasium's environment of this name is surefoot train gym:Acrobot-v1/ppo;"),
        (["Blackjack-v1/trpo"], "surefoot train gym:Blackjack-v1/trpo; gymnax's, in JAX, gymnax:"),
        (["HalfCheetah-v4/ppo"], "surefoot train half-cheetah/ppo, or gym:HalfCheetah-v4/ppo for"),
        (["HalfCheetahDir-v1"], "Here it is surefoot train half-cheetah-dir/maml-trpo."),
        (["HalfCheetahRandDirecEnv"], "Here it is surefoot train half-cheetah-dir/maml-trpo."),
        (["HalfCheetahVelEnv-v1"], "Here it is surefoot train half-cheetah-vel/maml-trpo."),
        (["Bandit-K5-v0"], "Here it is surefoot train bandit/maml-trpo."),
        (["--env-name", "2DNavigation-v0"], "Here it is surefoot train navigation-2d/maml-trpo."),
        (["--env", "TabularMDP-v0"], "Here it is surefoot train tabular-mdp/maml-trpo."),
        (["cartpole", "--algorithm", "PPO"], "Here it is --algorithm single-task --rule ppo-clip."),
        (
            ["cartpole", "--total-timesteps", "100000"],
            "--total-timesteps: --iterations; surefoot counts iterations; one of this preset samples 2048 "
            "environment steps",
        ),
        (["bandit", "--total-timesteps=1"], "samples 1600 episodes of at most 10 environment steps"),
        (["bandit", "--fast_lr", "1", "--max-kl=1"], "--fast-lr: --inner.lr --max-kl: --outer.max-kl"),
        (["cartpole/trpo", "--max-kl", "1"], "--max-kl: --rule.max-kl"),
        (
            ["cartpole/trpo", "--clip-range", "0.2"],
            "--clip-range: cartpole/trpo has no such option; others have --rule.clip",
        ),
        (["cartpole/a3c", "--n-timesteps", "1"], "samples 40 environment steps for each of 100 gradients"),
        (["cartpole", "--num-workers", "2"], "--num-workers: --sampler.workers; with --sampler processes"),
        (["cartpole", "--device", "cpu"], "--device: JAX chooses the device"),
    ],
)
def test_the_message_says_our_name(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", *arguments]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert message in " ".join(errors.split())
