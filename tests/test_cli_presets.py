"""What `surefoot train PRESET` takes, for presets that together have every part in every place."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from surefoot import cli
from surefoot.experiment import PRESETS


def places(part: Any, place: str = "") -> set[tuple[str, type]]:
    """Where there are parts in a configuration, and their types: options follow from them."""
    if not is_dataclass(part):
        return set()
    inner = [places(getattr(part, field.name), f"{place}.{field.name}") for field in fields(part)]
    return {(place, type(part))}.union(*inner)


def telling() -> list[str]:
    """Presets of which each has a part where none before it has."""
    seen: set[tuple[str, type]] = set()
    names: list[str] = []
    for name, config in PRESETS.items():
        if not (found := places(config)) <= seen:
            names.append(name)
            seen |= found
    return names


@pytest.mark.parametrize("name", telling())
def test_a_preset_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(["train", name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--iterations", "--streams", "--steps", "--seeds", "--seed"))
