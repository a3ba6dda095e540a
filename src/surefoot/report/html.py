"""The report of runs: one HTML file that opens without a network."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from surefoot.report.comparing import COLOURS
from surefoot.report.comparison import Comparison
from surefoot.report.finished import FinishedRun, Group
from surefoot.report.goals import GoalField, goals_section
from surefoot.report.learning import learning_curve
from surefoot.report.page_parts import (
    draw_tasks,
    key,
    look,
    options_section,
    pictures_section,
    table,
    versions_section,
    warnings_section,
)

_PAGE = Path(__file__).parent / "page"
_POINTS = 400
"""Most points of a run's curve."""
_PICTURES = 3_500_000
"""Bytes of the page that pictures may take, beside some 60 KB of data for each run."""
_HELP = (
    '<p class="quiet" id="help">Drag to zoom, double-click to show everything. With the keyboard: arrows '
    "move the cursor, + and - zoom, 0 shows everything.</p>"
)
_CHART = """
<div class="chart" id="{id}" tabindex="0" role="application" aria-label="{label}"
 aria-describedby="help"></div>
<p class="quiet" id="{id}-values" aria-live="polite"></p>
<div class="controls"><button type="button" id="{id}-reset">Show everything</button></div>
"""
_FIRST = ("return", "return_after", "return_before", "kl", "entropy", "explained_variance", "loss")
"""Metrics that are offered first."""


def make_report(groups: Sequence[Group], fields: Sequence[GoalField] = ()) -> bytes:
    """The page, in UTF-8, with fields of goals to choose from. Where every group has several seeds, groups
    are compared with the first."""
    runs = [run for group in groups for run in group.runs]
    several = all(len(group.runs) > 1 for group in groups)
    comparison = Comparison(groups) if several else None
    goals = [field.data for field in fields]
    sections = {
        "Results": _results(groups, comparison),
        "Learning": _learning(runs),
        **({"Adaptation": _adaptation(groups)} if runs[0].adapts and len(runs[0].returns) > 1 else {}),
        **({"Goals": goals_section(fields)} if fields else {}),
        "Warnings": warnings_section(runs, comparison.notes() if comparison else []),
        "Configuration": options_section(groups),
        "Versions and machine": versions_section(runs),
        "Pictures": pictures_section(runs, _PICTURES - len(json.dumps(goals))),
    }
    return _filled(runs, sections, {**page_data(groups, comparison), "goals": goals})


def make_live_page(groups: Sequence[Group], live: Mapping[str, Any]) -> bytes:
    """The page of runs that are still training, in UTF-8. `live` is the data that changes: `status`, a
    sentence, and the `seconds` after which the page asks again."""
    runs = [run for group in groups for run in group.runs]
    sections = {
        "Learning": f'<p id="status" aria-live="off">{escape(live["status"])}</p>' + _learning(runs),
        "Warnings": warnings_section([run for run in runs if run.metrics], []),
        "Configuration": options_section(groups),
        "Versions and machine": versions_section(runs),
    }
    return _filled(runs, sections, {**page_data(groups), **live})


def _filled(runs: Sequence[FinishedRun], sections: Mapping[str, str], data: Mapping[str, Any]) -> bytes:
    """The page with these sections and data."""
    title = f"{runs[0].config.preset}: {len(runs)} run{'s' * (len(runs) > 1)}"
    page = Template((_PAGE / "page.html").read_text(encoding="utf-8"))
    texts = {name: (_PAGE / file).read_text(encoding="utf-8") for name, file in _FILES.items()}
    filled = page.substitute(
        title=escape(title),
        subtitle=escape(f"surefoot {version('surefoot')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        contents="".join(f'<li><a href="#{_id(name)}">{name}</a></li>' for name in sections),
        sections="\n".join(
            f'<section aria-labelledby="{_id(name)}"><h2 id="{_id(name)}">{name}</h2>{body}</section>'
            for name, body in sections.items()
        ),
        # Within a script no text may end it.
        data=json.dumps(data).replace("<", "\\u003c"),
        **texts,
    )
    return filled.encode(errors="replace")  # a path may be no text


_FILES = {
    "css": "page.css",
    "script": "page.js",
    "goals": "goals.js",
    "live": "live.js",
    "library": "uPlot.iife.min.js",
    "library_css": "uPlot.min.css",
}


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")


def _results(groups: Sequence[Group], comparison: Comparison | None) -> str:
    if comparison is None:
        head = ("run", "seed", "mean return", "steps", "hours")
        rows = [
            (
                escape(str(run.path)),
                str(run.seed),
                f"{run.returns[-1].mean():.2f}",
                _count(run.steps),
                f"{run.hours:.3g}",
            )
            for group in groups
            for run in group.runs
        ]
        return table(head, rows)
    summary = comparison.summary()
    labels = [key(look(i), group.label) for i, group in enumerate(groups)]
    rows = []
    for label, group in zip(labels, summary["groups"], strict=True):
        against = group.get("against_baseline")
        apart = (
            _with_ends(against["difference"]) + " paired" * against["paired_by_seed"]
            if against
            else "baseline"
        )
        improves = _with_ends(against["probability_of_improvement"]) if against else "–"
        rows.append(
            (
                label,
                str(len(group["seeds"])),
                _with_ends(group, "iqm"),
                apart,
                improves,
                against["verdict"] if against else "–",
                _count(group["steps"]),
                f"{group['hours']:.3g}",
            )
        )
    head = ("runs", "seeds", "IQM (95% interval)", "difference", "P(higher)", "verdict", "steps", "hours")
    score = f"<p>Score: {escape(summary['score'])}; interquartile mean (IQM) with 95% intervals.</p>"
    return score + table(head, rows, text=(0, 5))


def _with_ends(found: dict[str, Any], name: str = "estimate") -> str:
    low, high = found["ci95"]
    return f"{found[name]:.2f} ({low:.2f} … {high:.2f})"


def _count(steps: float | None) -> str:
    return "unknown" if steps is None else f"{steps:,.0f}"


def _learning(runs: Sequence[FinishedRun]) -> str:
    names = dict.fromkeys(name for run in runs for row in run.metrics[-1:] for name in row)
    names = [name for name in names if name not in ("iteration", "steps")]
    names.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    options = "".join(f"<option>{escape(name)}</option>" for name in names)
    choice = f'<label for="metric">Metric</label><select id="metric">{options}</select>'
    return (
        _HELP
        + _CHART.format(id="curves", label="Learning curves")
        + f'<h3>Metrics of each run</h3><div class="controls">{choice}</div>'
        + _CHART.format(id="metrics", label="A metric of each run")
    )


def _adaptation(groups: Sequence[Group]) -> str:
    """A row for each group and step, and a picture of each group's tasks."""
    parts = []
    steps = min(len(run.returns) for group in groups for run in group.runs)
    rows = []
    for i, group in enumerate(groups):
        means = [np.mean([run.returns[step].mean() for run in group.runs]) for step in range(steps)]
        rows.append((key(look(i), group.label), *(f"{mean:.2f}" for mean in means)))
    parts.append("<p>Mean return before adaptation (0) and after each step of it:</p>")
    parts.append(table(("steps of adaptation", *map(str, range(steps))), rows))
    for i, group in enumerate(groups):
        if len({run.returns.shape for run in group.runs}) == 1:
            returns = np.stack([run.returns for run in group.runs])
            parts.append(draw_tasks(returns[:, 0].mean(axis=0), returns[:, -1], look(i), group.label))
    return "".join(parts)


def page_data(groups: Sequence[Group], comparison: Comparison | None = None) -> dict[str, Any]:
    """The data that the charts draw."""
    runs = [(i, run) for i, group in enumerate(groups) for run in group.runs]
    by_steps = all(run.steps is not None for _, run in runs)
    metric, named = learning_curve([run.metrics for _, run in runs])
    curves = []
    for i, group in enumerate(groups):
        curve = comparison.curve(group, metric) if comparison else None
        line = {"label": group.label, **look(i)}
        if curve is not None:
            parts = {"x": curve.steps, "y": curve.estimate, "low": curve.low, "high": curve.high}
            curves.append({**line, **{name: _numbers(values) for name, values in parts.items()}})
        else:
            found = [(run, _thinned(run, metric)) for run in group.runs]
            curves += [
                {**line, "label": f"{group.label}, seed {run.seed}", **points}
                for run, points in found
                if points["x"]
            ]
    return {
        "x": "steps of the environment" if by_steps else "iteration",
        "y": named,
        "curves": curves,
        "runs": [
            {
                "label": f"{groups[i].label}, seed {run.seed}",
                "colour": look(i)["colour"],
                "dash": _dash(i, groups[i].runs.index(run)),
                "metrics": {name: _thinned(run, name) for row in run.metrics[-1:] for name in row},
            }
            for i, run in runs
        ],
    }


def _dash(group: int, run: int) -> list[int] | None:
    """The dash of a run of a group: the marks are longer for each run, the gaps for each round of colours."""
    beyond = group // len(COLOURS)
    return [4 + 2 * run, 3 + 3 * beyond] if run or beyond else None


def _thinned(run: FinishedRun, name: str) -> dict[str, list[float]]:
    """A metric's curve; of many iterations every k-th."""
    x, y = run.curve(name)
    every = max(1, -(-len(x) // _POINTS))
    return {"x": _numbers(x[::every]), "y": _numbers(y[::every])}


def _numbers(values: np.ndarray) -> list[float]:
    """To six digits, which is more than a screen shows."""
    return [float(f"{value:.6g}") for value in values]
