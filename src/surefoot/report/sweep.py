"""The outcome of a sweep: its settings compared, and the return against the options that it varies."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from surefoot.experiment import Run
from surefoot.experiment.files import write_atomically
from surefoot.report.comparing import COLOURS, draw_comparison, looks, name_ticks
from surefoot.report.comparison import Comparison
from surefoot.report.finish import evaluate_at_end
from surefoot.report.finished import FinishedRun, Group, group_runs, shown_value
from surefoot.report.learning import picture
from surefoot.report.seeds import summarise

_WIDE = 9.9
"""Ratio of the largest to the smallest value of an option from which its axis is logarithmic."""
_IN_A_LEGEND = 12
"""Most settings that the picture of a comparison shows, and lines of that of a sweep."""
_WIDTH = 8.4
"""Width of the picture's panel in inches."""


def finish_sweep(runs: Sequence[Run], out: Path, failed: Sequence[Run] = ()) -> dict[str, Any]:
    """Evaluates the runs that lack it, leaves `sweep.json` and `sweep.png` in `out`, and returns what the
    first holds: for each setting the mean returns of its seeds, after all steps of adaptation where they
    adapt, their interquartile mean with its 95% interval, and how it compares with the best setting. Of a few
    settings with several seeds each, `comparison.png` has the learning curves.

    `failed` are runs that stopped early. Their seeds are named and have no returns, and a setting with such a
    seed is best only if every setting has one."""
    evaluate_missing(runs)
    groups = group_runs([FinishedRun.read(run.folder.path) for run in runs])
    compared = [group for group in groups if len(group.runs) > 1]
    comparison = Comparison(compared) if len(compared) > 1 else None
    pooled = comparison is not None and comparison.same_tasks
    rows = [_row(group, failed, pooled) for group in groups]
    sound = [row for row in rows if not row["failed"]] or rows
    # A setting of which one seed is left has no verdict beside those with several.
    best = max(sound, key=lambda row: (len(row["seeds"]) > 1, row["iqm"]))
    if comparison is not None:
        several = [row for row in rows if len(row["seeds"]) > 1]
        comparison = replace(comparison, baseline=several.index(best))
        for row, group in zip(several, compared, strict=True):
            row["verdict"] = "best" if row is best else comparison.against(group).verdict
        if len(compared) <= _IN_A_LEGEND:
            for kind, content in draw_comparison(comparison).items():
                write_atomically(out / f"comparison.{kind}", content)
    lost = {run.folder.path.parent for run in failed} - {group.runs[0].path.parent for group in groups}
    summary = {
        "preset": runs[0].config.preset,
        "best": best["label"],
        "statistic": "interquartile mean over seeds" + " and tasks" * pooled,
        "settings": rows,
        "failed_settings": sorted(path.name for path in lost),
    }
    write_atomically(out / "sweep.json", json.dumps(summary, indent=2).encode() + b"\n")
    write_atomically(out / "sweep.png", draw_sweep(summary))
    return summary


def evaluate_missing(runs: Sequence[Run]) -> None:
    """Evaluates the runs that have not been evaluated as they are now."""
    for run in runs:
        if not run.folder.is_evaluated_at(run.iteration):
            evaluate_at_end(run)


def _row(group: Group, failed: Sequence[Run], pooled: bool) -> dict[str, Any]:
    """A setting's returns. Where they are `pooled`, the interquartile mean is over seeds and tasks."""
    scores = np.stack([run.returns[-1] for run in group.runs])
    found = summarise(scores, "seeds-and-tasks") if pooled else summarise(scores.mean(axis=1, keepdims=True))
    return {
        "label": group.label,
        "options": dict(group.differences),
        "seeds": group.seeds,
        "failed": [run.config.seed for run in failed if run.folder.path.parent == group.runs[0].path.parent],
        "returns": found.pop("seeds"),
        **found,
        "verdict": None,
    }


def draw_sweep(summary: dict[str, Any]) -> bytes:
    """A PNG: the return of every seed, and the interquartile mean with its 95% interval, against the numeric
    option that takes most values; a line for each setting of the others. Where most lines would have one
    point, as those of random settings, or there would be too many, each numeric option has a panel of points.
    The points are side by side where no option is numeric."""
    rows = summary["settings"]
    numeric = _numeric(rows)
    lines = _grouped(rows, numeric[:1])
    alone = sum(len(line) == 1 for line in lines.values())
    joined = 2 * alone <= len(lines) <= _IN_A_LEGEND
    if not joined:  # points have no dashes, so that each colour is there once
        lines = _grouped(rows, numeric)
        lines = lines if len(lines) <= len(COLOURS) else {"": rows}
    along = numeric[:1] if joined else numeric

    def draw(*panels: Axes) -> None:
        for axes, name in zip(panels, along, strict=False):
            _draw_against(axes, name, lines, joined)
        if not along:
            look = {**next(looks(1)), "linestyle": "none"}
            _draw_points(panels[0], np.arange(len(rows)), rows, look, "")
            name_ticks(panels[0], [row["label"] for row in rows], _WIDTH)
        elif len(lines) > 1:
            handles, labels = panels[0].get_legend_handles_labels()
            panels[0].figure.legend(handles, labels, frameon=False, loc="outside right center")
        panels[0].set_ylabel("mean return of an episode")

    title = f"{summary['preset']}, after training: seeds; {summary['statistic']}, 95% interval"
    return picture(title, draw, panels=max(1, len(along)))


def _numeric(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The numeric options, that with most values first."""
    values = {name: [row["options"][name] for row in rows] for name in rows[0]["options"]}
    numeric = [name for name, column in values.items() if all(type(x) in (int, float) for x in column)]
    return sorted(numeric, key=lambda name: -len(set(values[name])))


def _grouped(rows: Sequence[dict[str, Any]], without: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The settings by their options other than these."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        others = [f"{name} {shown_value(x)}" for name, x in row["options"].items() if name not in without]
        groups.setdefault(", ".join(others), []).append(row)
    return groups


def _draw_against(axes: Axes, along: str, lines: dict[str, list[dict[str, Any]]], joined: bool) -> None:
    for (label, line), look in zip(lines.items(), looks(len(lines)), strict=True):
        line = sorted(line, key=lambda row: row["options"][along])
        x = np.array([row["options"][along] for row in line], float)
        _draw_points(axes, x, line, look if joined else {**look, "linestyle": "none"}, label)
    values = [row["options"][along] for line in lines.values() for row in line]
    axes.set_xlabel(along)
    if min(values) > 0 and max(values) / min(values) >= _WIDE:
        axes.set_xscale("log")
    elif all(isinstance(value, int) for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_points(
    axes: Axes, x: np.ndarray, rows: Sequence[dict[str, Any]], look: dict[str, Any], label: str
) -> None:
    for at, row in zip(x, rows, strict=True):
        returns = row["returns"]
        axes.plot([at] * len(returns), returns, "o", color=look["color"], alpha=0.35, markersize=3)
    middle = np.array([row["iqm"] for row in rows])
    ends = np.array([row["ci95"] or [row["iqm"]] * 2 for row in rows])
    axes.errorbar(
        x, middle, yerr=np.abs(ends.T - middle), marker="D", markersize=4, capsize=3, label=label, **look
    )
