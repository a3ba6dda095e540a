"""Imports point one way, with samplers and checks at the side:

`types, options ← theory, encoders, networks ← policies, baselines, envs ← rules`
`rules ← algorithms ← experiment ← report ← cli`
"""

from pathlib import Path

import pytest

from support.imports import BELOW, find_cycle, read_imports, violations

SOURCE = Path(__file__).parents[1] / "src" / "surefoot"


def test_the_library_imports_in_one_direction():
    assert violations(read_imports(SOURCE)) == []


def test_the_library_has_no_cycles():
    assert find_cycle(read_imports(SOURCE)) == []


def test_the_library_was_read():
    imports = read_imports(SOURCE)
    assert "theory.averages" in imports["theory.advantages"]
    assert "policies.base" in imports["samplers.scan"]
    assert "types" in imports["theory.distributions"]


def test_every_package_has_its_place():
    packages = {module.split(".")[0] for module in read_imports(SOURCE)}
    assert packages <= set(BELOW)


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("types", "options"),
        ("theory.returns", "policies.base"),
        ("policies.gaussian", "envs.base"),
        ("theory.objectives", "networks"),
        ("networks", "theory.distributions"),
        ("envs.bandit", "networks"),
        ("baselines.zero", "policies"),
        ("envs.bandit", "baselines.base"),
        ("policies.base", "rules"),
        ("rules.gradient", "samplers.base"),
        ("rules.gradient", "algorithms.maml"),
        ("samplers.scan", "policies"),
        ("samplers.scan", "policies.gaussian"),
        ("samplers.scan", "envs"),
        ("samplers.scan", "theory.returns"),
        ("algorithms.maml", "experiment.training"),
        ("experiment.run", "report"),
        ("algorithms.maml", "checks"),
        ("report", "cli"),
        ("checks.env", "experiment"),
        ("statistics", "theory.statistics"),
        ("statistics", "types"),
        ("attic", "types"),
    ],
)
def test_an_import_against_the_direction_is_found(module: str, target: str):
    assert violations({module: {target}}) == [f"{module} imports {target}"]


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("theory.meta", "theory.objectives"),
        ("networks", "options"),
        ("policies.gaussian", "theory.distributions"),
        ("policies.gaussian", "networks"),
        ("baselines.value_network", "networks"),
        ("samplers.scan", "envs.base"),
        ("samplers.scan", "samplers.base"),
        ("algorithms.base", "samplers.base"),
        ("checks.rule", "algorithms.maml"),
        ("cli", "types"),
    ],
)
def test_an_import_along_the_direction_is_let_pass(module: str, target: str):
    assert violations({module: {target}}) == []


def test_cycles_are_found():
    ring = find_cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"a"}})
    assert ring == ["a", "b", "d", "a"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_read_wherever_they_stand(tmp_path: Path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from surefoot.package.one import x as x\n")
    (tmp_path / "package" / "one.py").write_text(
        "import numpy\nimport surefoot.package.two\ndef f():\n    from surefoot.other import name\n"
    )
    (tmp_path / "package" / "two.py").write_text("from surefoot import other\n")
    (tmp_path / "other.py").write_text("")
    assert read_imports(tmp_path) == {
        "package": {"package.one"},
        "package.one": {"package.two", "other"},
        "package.two": {"other"},
        "other": set(),
    }


def test_relative_imports_are_refused(tmp_path: Path):
    (tmp_path / "one.py").write_text("from . import two\n")
    with pytest.raises(ValueError, match="write them in full"):
        read_imports(tmp_path)
