"""The picture of a comparison: learning curves over steps of the environment, and what each group reaches."""

import io
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.ticker import EngFormatter, MaxNLocator

from surefoot.report.comparison import Comparison
from surefoot.report.learning import learning_curve, marks
from surefoot.statistics import Interval

COLOURS = ("#0b6e99", "#d1495b", "#c98a00", "#3f7d4f", "#6f4e9c", "#7a4b2a", "#52606d", "#c2559d")
"""Told apart by the colour-blind too, in this order; beyond them lines change their dashes."""
_DASHES = ("-", "--", ":", "-.")
_NARROW = 60
"""Letters of a label in a legend of two columns."""
_PANEL, _TICK_SIZE = 3.8, 8
"""Width of a panel in inches, and size of the letters below it in points."""
_WORD = 24
"""Letters of a word from which it may be broken."""


def draw_comparison(comparison: Comparison) -> dict[str, bytes]:
    """The picture as PNG and SVG, by the ending of a file's name."""
    style = {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "surefoot",
    }
    with context(["default", style]):
        figure = Figure(figsize=(9.2, 3.9 + 0.2 * (len(comparison.groups) // 2)), layout="constrained")
        training, end = figure.subplots(1, 2)
        _draw_training(training, comparison)
        (_draw_adaptation if comparison.adapts else _draw_scores)(end, comparison)
        handles, labels = training.get_legend_handles_labels()
        columns = 2 if max(map(len, labels)) < _NARROW else 1
        figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=8.5, ncols=columns)
        pictures = {}
        for kind, options in {"png": {"dpi": 130}, "svg": {"metadata": {"Date": None}}}.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, **options)
            pictures[kind] = buffer.getvalue()
    return pictures


def looks(count: int) -> Iterator[dict[str, Any]]:
    """A colour and a dash for each of `count` groups."""
    for i in range(count):
        yield {"color": COLOURS[i % len(COLOURS)], "linestyle": _DASHES[i // len(COLOURS) % len(_DASHES)]}


def _draw_training(axes: Axes, comparison: Comparison) -> None:
    after, named = learning_curve([run.metrics for run in comparison.runs])
    for group, look in zip(comparison.groups, looks(len(comparison.groups)), strict=True):
        # Matplotlib leaves names that begin with an underscore out of a legend.
        name = "\u200b" * group.label.startswith("_") + group.label
        label = f"{name} ({len(group.runs)} seeds)"
        curve = comparison.curve(group, after)
        if curve is None:
            axes.plot([], [], label=f"{label}: no curve that all share", **look)
            continue
        axes.plot(curve.steps, curve.estimate, linewidth=1.6, label=label, **look, **marks(curve.steps))
        if len(curve.steps) > 1:
            axes.fill_between(
                curve.steps, curve.low, curve.high, color=look["color"], alpha=0.15, linewidth=0
            )
        else:
            axes.vlines(curve.steps, curve.low, curve.high, color=look["color"], alpha=0.4)
        before = comparison.curve(group, "return_before") if comparison.adapts else None
        if before is not None:
            pale = {"linewidth": 0.9, "alpha": 0.6, "color": look["color"], "linestyle": ":"}
            axes.plot(before.steps, before.estimate, **pale, **marks(before.steps))
    if comparison.adapts:
        axes.plot([], [], ":", color="#52606d", linewidth=0.9, label="dotted: before adaptation, in training")
    by_steps = all(run.steps is not None for run in comparison.runs)
    axes.set(
        title="Training: interquartile mean (IQM) and 95% interval",
        xlabel="steps of the environment" if by_steps else "iteration",
        ylabel=named,
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6))


def _draw_adaptation(axes: Axes, comparison: Comparison) -> None:
    count = len(comparison.groups)
    for i, (group, look) in enumerate(zip(comparison.groups, looks(count), strict=True)):
        found = comparison.adaptation(group)
        # Beside one another, so that intervals do not hide each other.
        steps = np.arange(len(found)) + (i - (count - 1) / 2) * min(0.08, 0.5 / count)
        _draw_intervals(axes, steps, found, marker="o", markersize=4, linewidth=1.4, capsize=3, **look)
    tasks = comparison.runs[0].returns.shape[1]
    axes.set(
        title=f"After training: {tasks} held-out tasks" if comparison.same_tasks else "After training",
        xlabel="steps of adaptation",
        ylabel="return: interquartile mean, 95% interval",
        xticks=range(comparison.evaluated_steps),
    )
    axes.margins(x=0.1)


def _draw_scores(axes: Axes, comparison: Comparison) -> None:
    """A point for each seed, and the interquartile mean with its interval beside them."""
    count = len(comparison.groups)
    for i, (group, look) in enumerate(zip(comparison.groups, looks(count), strict=True)):
        scores = comparison.scores(group)[:, 0]
        spread = np.linspace(-0.12, 0.12, len(scores))
        axes.plot(i - 0.1 + spread, scores, "o", color=look["color"], alpha=0.4, markersize=4, linewidth=0)
        _draw_intervals(
            axes,
            np.array([i + 0.2]),
            [comparison.reached(group)],
            marker="D",
            markersize=5,
            capsize=4,
            **look,
        )
    axes.set(
        title="After training: seeds, and their IQM with 95% interval",
        ylabel="mean return of an episode",
    )
    name_ticks(axes, [group.label for group in comparison.groups], _PANEL)


def _draw_intervals(axes: Axes, x: np.ndarray, found: Sequence[Interval], **options: object) -> None:
    estimate = np.array([one.estimate for one in found])
    reach = np.array([[one.estimate - one.low for one in found], [one.high - one.estimate for one in found]])
    axes.errorbar(x, estimate, yerr=np.maximum(reach, 0.0), **options)  # type: ignore[arg-type]


def name_ticks(axes: Axes, labels: Sequence[str], width: float) -> None:
    """The labels at 0, 1, … of an axis of this width in inches, broken at blanks so that they do not overlap;
    vertical where their words are too long for lines side by side."""
    slot = 72 * width / len(labels)
    letters, lines = int(slot / (0.62 * _TICK_SIZE)), max(1, int(slot / (1.4 * _TICK_SIZE)))
    vertical = letters < min(_WORD, max(len(word) for label in labels for word in label.split(" ")))
    if vertical:
        letters = next(n for n in itertools.count(_WORD) if max(len(_wrap(x, n)) for x in labels) <= lines)
    texts = ["\n".join(_wrap(label, letters)) for label in labels]
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xticks(range(len(labels)), texts, rotation=90 * vertical, fontsize=_TICK_SIZE)


def _wrap(label: str, letters: int) -> list[str]:
    return textwrap.wrap(label, letters, break_on_hyphens=False)
