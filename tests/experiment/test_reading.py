"""`surefoot.read_metrics`, on metrics written by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

import surefoot
from support.finished_runs import write_run
from surefoot.options import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", "recall/ppo", 3, [None, 2.0, 4.0], [[1.0]])


@pytest.fixture
def no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # to import it fails


def test_without_pandas_there_are_arrays(run: Path, no_pandas: None) -> None:
    found = surefoot.read_metrics(run)
    assert set(found) == {"iteration", "return", "steps", "seconds"}
    np.testing.assert_array_equal(found["return"], [np.nan, 2, 4])
    np.testing.assert_array_equal(found["iteration"], [1, 2, 3])
    assert found["iteration"].dtype == np.int64


def test_with_pandas_there_is_a_frame(run: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    found = surefoot.read_metrics(str(run))
    assert isinstance(found, pandas.DataFrame)
    assert len(found) == 3
    assert found["return"].max() == 4
    assert found["steps"].tolist() == [100, 200, 300]


def test_seeds_are_one_table(tmp_path: Path, no_pandas: None) -> None:
    """A metric that a run lacks is not known."""
    write_run(tmp_path / "many" / "seed007", "recall/ppo", 7, [1.0], [[1.0]])
    write_run(tmp_path / "many" / "seed008", "recall/ppo", 8, [2.0, 3.0], [[1.0]], steps=None)
    found = surefoot.read_metrics(tmp_path / "many")
    np.testing.assert_array_equal(found["seed"], [7, 8, 8])
    np.testing.assert_array_equal(found["iteration"], [1, 1, 2])
    np.testing.assert_array_equal(found["return"], [1, 2, 3])
    np.testing.assert_array_equal(found["steps"], [100, np.nan, np.nan])


def test_what_cannot_be_read_is_named(run: Path) -> None:
    with pytest.raises(UserError, match="There is no run at"):
        surefoot.read_metrics(run / "nothing")
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="has no metrics yet"):
        surefoot.read_metrics(run)


def test_a_sweep_is_one_table_with_its_settings(tmp_path: Path, no_pandas: None) -> None:
    for setting in ("rule.lr=0.1", "rule.lr=0.2"):
        write_run(tmp_path / setting / "seed000", "recall/ppo", 0, [1.0, 2.0], [[1.0]])
    found = surefoot.read_metrics(tmp_path)
    assert found["setting"].tolist() == ["rule.lr=0.1"] * 2 + ["rule.lr=0.2"] * 2
    np.testing.assert_array_equal(found["iteration"], [1, 2, 1, 2])
