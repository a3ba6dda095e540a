"""The metrics of runs as a table, for plots and analyses of one's own."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.experiment.folder import RunFolder, run_folders
from surefoot.experiment.metrics import read_metrics as read_rows
from surefoot.experiment.run import Run
from surefoot.options import UserError


def read_metrics(run: Run | str | Path) -> Any:
    """The metrics of a run, or of a folder of several seeds or of a sweep: a pandas `DataFrame` where pandas
    is installed, otherwise a dictionary with a NumPy array for each column. Either way
    `read_metrics(run)["return"]` is one metric of all iterations.

    There is a row for each iteration, for several seeds a column `seed`, and for a sweep a column `setting`,
    such as "rule.lr=0.001". Values that are unknown or not finite are NaN. Raises `UserError` if there is no
    such run, or if its metrics are damaged.
    """
    path = run.folder.path if isinstance(run, Run) else Path(run)
    seeds = [] if (path / "config.yaml").exists() else run_folders(path)
    rows: list[Mapping[str, Any]] = []
    for folder in seeds:
        setting = {} if folder.parent == path else {"setting": folder.parent.name}
        of_run = {**setting, "seed": int(folder.name.removeprefix("seed"))}
        rows += [{**of_run, **row} for row in read_rows(folder / "metrics.jsonl")]
    if not seeds:
        rows += read_rows(RunFolder.open(path).metrics)
    if not rows:
        raise UserError(f"{path} has no metrics yet.")
    columns = {name: _column(name, rows) for name in dict.fromkeys(key for row in rows for key in row)}
    try:
        pandas = import_module("pandas")
    except ImportError:
        return columns
    return pandas.DataFrame(columns)


def _column(name: str, rows: list[Mapping[str, Any]]) -> np.ndarray:
    if name in ("setting", "seed", "iteration"):
        return np.array([row[name] for row in rows])
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)
