"""The benchmarks name functions of the library, which must be there."""

import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_every_function_that_is_timed_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    parts = resolve_name("iteration_surefoot:PARTS")
    assert len(parts) > 10
    for target in parts:
        if not target.startswith("mujoco."):
            assert callable(resolve_name(target))
    for name in ("iteration_surefoot", "iteration_problem"):
        sys.modules.pop(name)
