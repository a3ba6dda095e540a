"""`surefoot lab`, with experiments that take no time."""

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import pytest

from surefoot import cli, lab
from surefoot.lab import AbstractExperiment, Claim, Result
from surefoot.lab.base import experiments
from surefoot.lab.figures import Line, Panel
from surefoot.options import UserError


@dataclass(frozen=True)
class Coin(AbstractExperiment):
    """Heads [or tails]: a toy.

    More of it.
    """

    fair: bool = True

    def measure(self, seed: int) -> Result:
        claims = (
            Claim("A coin has two sides", True, f"seed {seed}"),
            Claim("It is fair", self.fair, f"{jnp.ones(1).dtype}"),
        )
        panels = [Panel("Shares", "side", "share", [Line((0, 1), (1 / 3, 2))])]
        return Result("Coins", ("side", "share [%]"), (("heads", 1 / 3), ("tails", 2)), panels, claims)


@dataclass(frozen=True)
class Loaded(AbstractExperiment):
    """A coin that is not fair."""

    def measure(self, seed: int) -> Result:
        return Coin(fair=False).measure(seed)


REAL = lab.EXPERIMENTS


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "EXPERIMENTS", {"coin": Coin, "loaded": Loaded})


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.run(["lab", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_alone_it_lists_the_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "coin" in out
    assert "Heads [or tails]: a toy." in out
    assert "More of it" not in out
    assert list(Path().iterdir()) == []


def test_an_experiment_prints_what_it_found_and_keeps_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "coin", "--seed", "3", "--out", "found/here")
    assert code == 0
    assert "✓ A coin has two sides: seed 3" in out
    assert "✓ It is fair: float64" in out
    assert "share [%]" in out
    assert "0.3333" in out
    folder = Path("found/here")
    assert (folder / "coin.csv").read_text() == f"side,share [%]\nheads,{1 / 3}\ntails,2\n"
    assert (folder / "coin.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(folder.iterdir())) == 2


def test_all_runs_all_and_a_claim_that_fails_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "all")
    assert code == 1
    assert "✗ It is fair" in out
    assert {path.name for path in Path("lab").iterdir()} == {
        "coin.csv",
        "coin.png",
        "loaded.csv",
        "loaded.png",
    }
    assert run(capsys, "loaded")[0] == 1
    assert run(capsys, "coin")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cion"], "There is no experiment 'cion'. Did you mean 'coin'?"),
        (["nothing-like-it"], "`surefoot lab` lists them"),
        (["coin", "--seed", "-1"], "seed is -1; it must be a whole number from 0 to 4294967295"),
        (["coin", "--seed", "9" * 20], f"seed is {'9' * 20}; it must be"),
        (["coin", "--seed", "x"], "--seed"),
        (["coin", "--sede", "1"], "--sede"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = run(capsys, *arguments)
    assert code == 2
    assert message in " ".join(errors.split())
    assert out == ""
    assert list(Path().iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("afile").touch()
    code, out, errors = run(capsys, "coin", "--out", "afile/x")
    assert (code, out) == (2, "")
    assert "The folder afile/x cannot be made: Not a directory. Choose another --out." in errors


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # permissions do not bind the superuser
    code, out, errors = run(capsys, "coin", "--out", ".")
    assert (code, out) == (2, "")
    assert "The folder . cannot be written to. Choose another --out." in errors


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_nothing_can_be_drawn_from(seed: int) -> None:
    with pytest.raises(UserError, match=f"seed is {seed}"):
        lab.run(Coin(), seed)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "--seed" in out
    assert "surefoot lab" in out


def test_the_registry_is_what_the_laboratory_exports() -> None:
    assert {"trust-region", "natural-gradient", "identities"} <= set(REAL)
    assert REAL["trust-region"] is lab.TrustRegionSteps
    assert AbstractExperiment not in REAL.values()
    assert experiments({"a": Coin, "b": AbstractExperiment, "c": 3}) == {"test-cli-lab": Coin}
    assert all((cls.__doc__ or "").strip() for cls in REAL.values())


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="not one cell for each of the columns"):
        Result("t", ("a", "b"), (("x",),), (), ())
