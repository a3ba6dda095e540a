from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from surefoot.envs import AbstractEnv, Bandit
from surefoot.experiment import Config
from surefoot.experiment.serialise import check_round_trip, load_config, save_config
from surefoot.options import UserError
from surefoot.rules import GradientStep


def edited(path: Path, config: Config, edit) -> Path:
    save_config(config, path)
    document = yaml.safe_load(path.read_text())
    edit(document)
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("lr", [0.5, (0.5, 0.25)])
def test_one_rate_or_many(lr: float | tuple[float, ...], config: Config, tmp_path: Path) -> None:
    changed = replace(config, algorithm=replace(config.algorithm, inner=GradientStep(lr=lr)))
    save_config(changed, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == changed


@dataclass(frozen=True)
class MyBandit(Bandit):
    """A user's own environment, outside the library."""

    extra: int = 3


def test_a_part_from_outside_is_named_by_module_and_class(config: Config, tmp_path: Path) -> None:
    changed = replace(config, env=MyBandit(extra=5))
    save_config(changed, tmp_path / "config.yaml")
    assert f"type: {__name__}:MyBandit" in (tmp_path / "config.yaml").read_text()
    assert load_config(tmp_path / "config.yaml") == changed


def set_in(*place: str, to: object):
    def edit(document: dict) -> None:
        for key in place[:-1]:
            document = document[key]
        document[place[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_in("seeed", to=3), "seeed is not an option. Did you mean 'seed'?"),
        (
            set_in("algorithm", "outer", "max_kI", to=1),
            r"algorithm\.outer\.max_kI is not an option.*'max_kl'",
        ),
        (set_in("algorithm", "outer", "max_kl", to="much"), r"max_kl is 'much'; it must be a number"),
        (set_in("algorithm", "outer", "max_kl", to=-1.0), "max-kl is -1.0; it must be a positive number"),
        (set_in("algorithm", "tasks", to=2.5), "tasks is 2.5; it must be a whole number"),
        (set_in("algorithm", "tasks", to=True), "tasks is True"),
        (set_in("algorithm", "order", to="third"), "'second' or 'first'"),
        (set_in("algorithm", "inner", "lr", to="fast"), "lr is 'fast'; it must be a number or a list"),
        (set_in("env", "type", to="bandits"), "no 'bandits' among the envs. Did you mean 'bandit'"),
        (set_in("env", to=3), "env needs a `type`"),
        (set_in("evaluation", to=3), "evaluation is 3; it must be a mapping"),
        (set_in("surefoot_config", to=0), "format 0 and this version of surefoot reads format 3"),
        (set_in("surefoot_config", to=True), "format True and this version"),
        (set_in("surefoot_config", to=1), "format 1 and this version"),
        (set_in("iterations", to=10**300), r"iterations is 1000.* …; it must be at most 2147483647"),
        (set_in("algorithm", "outer", "max_kl", to=10**400), r"max_kl is 1000.* …; it must be a number"),
        (set_in("preset", to="a\nb\0c"), "preset is .*; it must be a text on one line"),
        (lambda document: document.pop("env"), "env is missing"),
        (lambda document: document.pop("surefoot_config"), "not a surefoot configuration"),
    ],
)
def test_what_is_not_understood_is_an_error(edit, message: str, config: Config, tmp_path: Path) -> None:
    path = edited(tmp_path / "config.yaml", config, edit)
    with pytest.raises(UserError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [", "cannot be read"),
        (b"- 1\n", "not a surefoot configuration"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "not a surefoot configuration"),
        (b"a: " + b"[" * 100_000, "nested too deeply"),
        (b"{a: " * 100_000, "nested too deeply"),
        (b"a: " + b"9" * 10_000, "cannot be read"),
        (b"surefoot_config: 3\niterations: 3\nseed: 1\niterations: 5\n", "'iterations' is there twice"),
        (b"surefoot_config: 3\nenv: {type: bandit, arms: 2, arms: 3}\n", "'arms' is there twice"),
    ],
)
def test_a_file_that_is_no_configuration(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        load_config(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_scalars_of_numpy_are_numbers(config: Config, tmp_path: Path) -> None:
    rates = (np.float64(0.5), np.float64(0.25))
    changed = replace(config, algorithm=replace(config.algorithm, inner=GradientStep(rates)))
    save_config(changed, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == changed
    check_round_trip(changed)


@pytest.mark.parametrize(("text", "number"), [("1e-1", 0.1), ("2E3", 2000.0), ("'0.5'", 0.5), ("1", 1.0)])
def test_a_number_is_read_however_it_is_written(
    text: str, number: float, config: Config, tmp_path: Path
) -> None:
    """PyYAML follows YAML 1.1, where a number with an exponent needs a point and a sign."""
    path = tmp_path / "config.yaml"
    save_config(config, path)
    path.write_text(path.read_text().replace("max_kl: 0.01", f"max_kl: {text}"))
    assert load_config(path).algorithm.outer.max_kl == number  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class Kept(Bandit):
    """What a run can keep, in all its forms."""

    place: tuple[int, str] = (1, "north")
    none: tuple[float, ...] = ()
    limit: float = float("nan")
    also: float | None = None
    grown: tuple[int, ...] = field(default_factory=lambda: (1, 2))
    twice: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.place[0])


@dataclass(frozen=True)
class Bare(Bandit):
    goals: tuple = ((1.0, 2.0),)


@dataclass(frozen=True)
class Holder(Bandit):
    thing: Any = None


@dataclass(frozen=True)
class Rounds(Bandit):
    size: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.size + 1)


class NoDataclass(AbstractEnv):
    horizon = observation_space = 1
    action_space = Bandit().action_space
    sample_tasks = reset = step = time_limit_ends_return = Bandit.sample_tasks


def test_what_a_run_can_keep(config: Config, tmp_path: Path) -> None:
    changed = replace(config, env=Kept(place=(3, "south")))
    check_round_trip(changed)
    save_config(changed, tmp_path / "config.yaml")
    found = load_config(tmp_path / "config.yaml").env
    assert (found.place, found.twice, found.grown) == ((3, "south"), 6, (1, 2))  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Bare(), r"env\.goals is .*tuple\[float, \.\.\.\], not tuple"),
        (Holder(thing=np.zeros(2)), r"env\.thing is array.* cannot hold"),
        (Holder(thing=(1, print)), r"env\.thing\[1\] is <built-in function print>"),
        (Kept(place=(1, "north", 2)), r"env\.place is \[1, 'north', 2\]; it must be a list of 2"),  # pyright: ignore[reportArgumentType]
        (Rounds(), r"another env\.size"),
        (NoDataclass(), r"env is a NoDataclass, which is no dataclass.*@dataclass\(frozen=True\)"),
    ],
)
def test_what_a_run_could_not_read_again_is_said_with_its_name(
    env: Any, message: str, config: Config
) -> None:
    with pytest.raises(UserError, match=message):
        check_round_trip(replace(config, env=env))


def test_a_class_without_a_name_to_import_cannot_be_read_again(config: Config) -> None:
    @dataclass(frozen=True)
    class Local(Bandit):
        pass

    with pytest.raises(UserError, match="a class that can be imported by its name"):
        check_round_trip(replace(config, env=Local()))
