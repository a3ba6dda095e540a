"""The summary of a reproduction: our figures over seeds beside the published ones, and their picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from surefoot.experiment.folder import RunFolder
from surefoot.report.finished import FinishedRun
from surefoot.report.learning import picture
from surefoot.reproduction.tables import PublishedTable, Row
from surefoot.statistics import interval, mean

QUICK = "QUICK RUN, to test that it works: its figures cannot be compared with the published ones."
_OURS, _THEIRS = "#0b6e99", "#d1495b"


def summarise_table(
    table: PublishedTable,
    runs: Mapping[str, Sequence[Path]],
    agents: Mapping[str, Sequence[float]],
    failed: Sequence[Path],
) -> dict[str, Any]:
    """The table's text and rows, of the finished runs of each method and of the scores of reference agents by
    seed."""
    finished = {method: list(map(FinishedRun.read, paths)) for method, paths in runs.items()}
    rows = []
    for row in table.rows:
        done = finished.get(row.method, [])
        scores = np.array(
            [_scores(table, run) for run in done]
            if row.method in finished
            else [[score] for score in agents[row.method]]
        )
        hours = float(np.median([run.hours for run in done])) if done else None
        rows += _rows(table, row, scores, hours)
    provenance = [RunFolder.open(path).provenance for paths in runs.values() for path in paths]
    entries = [entry for path in provenance for entry in json.loads(path.read_text(encoding="utf-8"))]
    return {
        "title": table.title,
        "source": table.source,
        "quantity": table.quantity,
        "note": table.note,
        "commits": sorted({entry["commit"] for entry in entries if entry.get("commit")}),
        "failed": [str(path) for path in failed],
        "rows": rows,
    }


def _scores(table: PublishedTable, run: FinishedRun) -> Float[np.ndarray, " figure"]:
    """The figures of one run."""
    by_step = run.returns.mean(axis=1)
    if table.quantity == "mean return":
        return by_step
    return by_step.sum(keepdims=True) * run.config.evaluation.episodes


def _rows(table: PublishedTable, row: Row, scores: np.ndarray, hours: float | None) -> list[dict[str, Any]]:
    """A row for each figure of a method, of its scores `[seed figure]`; one without a mean if it has none."""
    by_step = table.quantity == "mean return"
    rows = []
    if not len(scores):  # every run failed
        scores = np.zeros((0, 1))
    for i in range(scores.shape[1]):
        found = interval(scores[:, i : i + 1], statistic=mean) if len(scores) > 1 else None
        rows.append(
            {
                "method": row.method,
                "step": i if by_step else None,
                "seeds": scores[:, i].tolist(),
                "mean": float(scores[:, i].mean()) if len(scores) else None,
                "ci95": [found.low, found.high] if found else None,
                "published": row.published[i] if i < len(row.published) else None,
                "hours": hours,
            }
        )
    return rows


def draw_reproduction(summary: Mapping[str, Any]) -> bytes:
    """A PNG: for each figure our mean with its interval, and the published one."""
    rows = [row for row in summary["rows"] if row["mean"] is not None]

    def draw(axes: Axes) -> None:
        places = np.arange(len(rows))[::-1]
        means = np.array([row["mean"] for row in rows])
        ends = np.array([row["ci95"] or [row["mean"]] * 2 for row in rows])
        several = any(row["ci95"] for row in rows)
        name = "ours, 95% interval over seeds" if several else "ours, one seed"
        look = {"fmt": "o", "color": _OURS, "capsize": 4, "label": name}
        axes.errorbar(means, places, xerr=np.abs(ends.T - means), **look)
        known = [(row["published"], place) for row, place in zip(rows, places, strict=True)]
        known = [pair for pair in known if pair[0] is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "x", color=_THEIRS, label="published")
        axes.set_yticks(places, [label(row) for row in rows])
        axes.set(xlabel=summary["quantity"])
        axes.legend(frameon=False)

    return picture(summary["title"] + " (quick run: not comparable)" * summary["quick"], draw, panels=1)


def label(row: Mapping[str, Any]) -> str:
    """The method of a row and, where there are several, the number of steps of adaptation."""
    step = row["step"]
    return row["method"] if step is None else f"{row['method']}, {step} step{'s' * (step != 1)}"
