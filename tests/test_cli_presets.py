"""What `surefoot train PRESET` takes, for every preset."""

import pytest

from surefoot import cli
from surefoot.experiment import PRESETS


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(["train", name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--iterations", "--streams", "--steps", "--seeds", "--seed"))
