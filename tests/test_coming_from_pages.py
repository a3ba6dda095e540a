"""The pages for those who come from other libraries: our lines in them are understood."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from surefoot.cli import foreign
from surefoot.cli.options import SWAPS, base_config, swap_parts
from surefoot.cli.training import _Train  # pyright: ignore[reportPrivateUsage]
from surefoot.experiment import PRESETS, Learner

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/guides").glob("from_*.md"))
OWN = {field.name for field in fields(_Train)} | SWAPS.keys()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'```{language} title="surefoot[^"]*"\n(.*?)```', page.read_text(), re.DOTALL)


def known(option: str) -> bool:
    """Whether any preset has this option, or a flag that turns it off."""
    names = {option, re.sub(r"(^|\.)no-", r"\1", option)}
    return bool(names & OWN) or any(foreign.has_option(c, n) for c in PRESETS.values() for n in names)


def test_there_are_four_and_each_is_in_the_navigation() -> None:
    assert [page.stem for page in PAGES] == [
        "from_garage",
        "from_pytorch_maml_rl",
        "from_rejax",
        "from_stable_baselines3",
    ]
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(f"guides/{page.name}" in navigation for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_has_a_preset_and_options_that_it_has(page: Path) -> None:
    commands = [shlex.split(line) for block in blocks(page, "sh") for line in block.splitlines()]
    assert commands
    for program, name, *words in commands:
        assert (program, name in ("train", "evaluate")) == ("surefoot", True)
        if name == "train":
            config, rest = swap_parts(*base_config(words))
            options = [word[2:].replace("no-", "") for word in rest if word.startswith("--")]
            unknown = [x for x in options if x not in OWN and not foreign.has_option(config, x)]
            assert unknown == [], " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_in_its_tables_exists(page: Path) -> None:
    named = re.findall(r"`--([\w.-]+)", page.read_text().split("## What differs")[0])
    unknown = [name for name in named if not known(name)]
    assert unknown == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "from_rejax"], ids=lambda page: page.stem)
def test_what_it_shows_in_python_is_put_together(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without training and evaluation, which take minutes."""
    result: Any = SimpleNamespace(returns=np.zeros((2, 3)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Learner, "train", lambda self, iterations: self)
    monkeypatch.setattr(Learner, "evaluate", lambda self, tasks=None, **options: result)
    for program in blocks(page, "python"):
        exec(program, {})
