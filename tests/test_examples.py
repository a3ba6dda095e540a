"""The examples: small enough to read at once, and they run."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TRACED = {"08_learning_rates": "rates=3", "11_optuna": "rounds=2, batch=3"}
"""Those that trace options, which checked types do not allow, and arguments that make them small."""
WITHOUT_FIGURE = {"09_export", "11_optuna"}


def test_they_follow_the_order_of_study() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "01_reinforce",
        "02_baselines",
        "03_actor_critic",
        "04_natural_gradient",
        "05_trpo",
        "06_ppo",
        "07_maml_trpo",
        "08_learning_rates",
        "09_export",
        "10_rl2",
        "11_optuna",
        "12_promp",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_is_short_and_names_a_page_of_the_theory(path: Path) -> None:
    text = path.read_text()
    assert 15 <= len(text.splitlines()) <= 52
    pages = re.findall(r"docs/theory/\w+\.md", text.split('"""')[1])
    assert pages
    assert all((ROOT / page).exists() for page in pages)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_runs(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if path.stem in TRACED:
        program = f"import runpy; runpy.run_path({str(path)!r})['main'](iterations=2, {TRACED[path.stem]})"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        out = done.stdout
    else:
        main = runpy.run_path(str(path))["main"]
        with jax.numpy_dtype_promotion("standard"):  # as in a program of one's own
            main(iterations=2)
        out = capsys.readouterr().out
    if path.stem == "08_learning_rates":
        assert len(set(re.findall(r"iterations +(\d+\.\d)", out))) > 1, "each rate has its own result"
    if path.stem == "09_export":
        assert out.count("'surefoot' in sys.modules = False") == 4
    if path.stem not in WITHOUT_FIGURE:
        assert (tmp_path / f"{path.stem}.png").read_bytes().startswith(b"\x89PNG")
    assert "return" in out
    assert len(out.splitlines()) >= 1
    assert re.search(r"-?\d+\.\d", out)
    assert "nan" not in out
    assert "inf" not in out
