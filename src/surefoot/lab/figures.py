"""Figures of experiments: panels side by side, described as data and drawn by one function."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

COLOURS = ("#0b6e99", "#d1495b", "#edae49", "#66a182", "#7a5195", "#9aa5b1")
"""Blue, red, yellow, green, violet and grey."""
BLUE, RED, YELLOW, GREEN, VIOLET, GREY = COLOURS

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
}

Numbers = Sequence[int | float] | np.ndarray | jax.Array


@dataclass(frozen=True)
class Line:
    """One line, or one set of points or bars, of a panel."""

    x: Numbers
    y: Numbers
    label: str = ""
    """Text in the legend; an empty one leaves the line out of it."""
    colour: str = BLUE
    style: str = "-"
    """Matplotlib's format string, or `bars` for horizontal bars of the lengths `x` at the heights `y`."""
    size: float = 4.0
    """Size of the markers, in points."""
    notes: Sequence[str] = ()
    """A text beside each point, or none."""
    notes_at: tuple[float, float] = (3.0, 4.0)
    """Offset of the texts to the right of and above the point, in points."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes. Its legend is below it."""

    title: str
    xlabel: str
    ylabel: str
    lines: Sequence[Line]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of Matplotlib's `Axes.set`, such as `xscale`."""
    contours: tuple[Numbers, Numbers, Numbers] | None = None
    """x `[n]`, y `[m]` and heights `[m n]` of contour lines in the background."""


def draw(title: str, panels: Sequence[Panel]) -> bytes:
    """A PNG file of one or more panels side by side."""
    with context(["default", _STYLE]):  # whatever the user's own settings are
        # Not through pyplot, which keeps every figure in memory.
        figure = Figure(figsize=(4.2 * len(panels), 4.3), layout="constrained")
        figure.suptitle(title, fontsize=11)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw_panel(axes, panel)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        return buffer.getvalue()


def _draw_panel(axes: Axes, panel: Panel) -> None:
    if panel.contours is not None:
        axes.contour(*panel.contours, levels=16, colors=GREY, linewidths=0.6)
    for line in panel.lines:
        if line.style == "bars":
            axes.barh(line.y, line.x, color=line.colour, label=line.label)
            continue
        axes.plot(line.x, line.y, line.style, color=line.colour, label=line.label, markersize=line.size)
        for note, x, y in zip(line.notes, line.x, line.y, strict=False):
            axes.annotate(
                note, (x, y), line.notes_at, textcoords="offset points", fontsize=7, color=line.colour
            )
    axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, **panel.settings)
    if any(line.label for line in panel.lines):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
