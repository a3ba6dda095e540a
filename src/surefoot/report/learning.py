"""The picture of learning one task: how the return grew, and what the policy is worth at the end; and the
panel of training that other pictures have too."""

import io
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.ticker import EngFormatter, MaxNLocator

from surefoot.experiment.evaluation import EvaluationResult

LINE, BEFORE = "#0b6e99", "#9aa5b1"
"""Colours of what is reached, after adaptation where there is any, and of what was before adaptation."""
_LINE_HEIGHT = 0.035
"""Height of a line of text, as a share of the panel's."""
History = list[dict[str, Any]]


def draw_learning(result: EvaluationResult, history: History) -> bytes:
    """A PNG: the return over training, and the returns of the trained policy's evaluation episodes.
    `history` is a run's metrics."""

    def draw(curve: Axes, end: Axes) -> None:
        draw_training(curve, [history])
        returns = result.episode_returns[0].ravel()
        end.hist(returns, bins=min(30, max(1, len(returns) // 4)), color=LINE, alpha=0.85)
        mean = float(np.mean(returns))
        end.axvline(mean, color="black", linewidth=1.2, label=f"mean {mean:.1f}")
        end.set(title=f"{len(returns)} episodes after training", xlabel="return", ylabel="episodes")
        end.legend(frameon=False)

    return picture(f"{result.preset}, {result.iteration} iterations", draw)


def draw_training(axes: Axes, histories: Sequence[History], seeds: Sequence[int] = ()) -> None:
    """The return over training, after adaptation and before it where there is any. Of several seeds each has
    a pale line with the seed beside it, and their mean is on top."""
    along = "steps" if all("steps" in row for rows in histories for row in rows) else "iteration"
    shown, named = learning_curve(histories)
    _draw_metric(axes, histories, along, shown, LINE, seeds)
    if any("return_before" in row for rows in histories for row in rows):
        _draw_metric(axes, histories, along, "return_before", BEFORE)
        for label, colour in (("before adaptation", BEFORE), ("after adaptation", LINE)):
            axes.plot([], [], color=colour, linewidth=2, label=label + ", mean over seeds" * bool(seeds))
        axes.legend(frameon=False)
    axes.set(
        title="Training" + ": each seed and their mean" * bool(seeds),
        xlabel="steps of the environment" if along == "steps" else "iteration",
        ylabel=named,
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _draw_metric(
    axes: Axes, histories: Sequence[History], along: str, name: str, colour: str, seeds: Sequence[int] = ()
) -> None:
    """A pale line for each history, with its seed beside its end, and their mean on top."""
    curves, ends = [], {}
    for i, history in enumerate(histories):
        x = np.array([row[along] for row in history], float)
        y = np.array([np.nan if row.get(name) is None else row[name] for row in history], float)
        known = np.flatnonzero(~np.isnan(y))
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.35, **marks(known))
        if seeds and len(known):
            ends[seeds[i]] = x[known[-1]], y[known[-1]]
        curves.append((x, y))
    name_lines(axes, ends)
    if len({len(x) for x, _ in curves}) == 1:
        x, y = (np.stack(parts) for parts in zip(*curves, strict=True))
        known, width = ~np.isnan(y).all(axis=0), 2 if len(curves) > 1 else 1.4
        x, y = x.mean(axis=0)[known], np.nanmean(y[:, known], axis=0)
        axes.plot(x, y, color=colour, linewidth=width, **marks(x))


def marks(points: Sized) -> dict[str, Any]:
    """Markers for a curve of one or two points: matplotlib draws no line of one point."""
    return {"marker": "o", "markersize": 4} if len(points) < 3 else {}


def name_lines(axes: Axes, ends: Mapping[int, tuple[float, float]]) -> None:
    """The seed beside the end of each line; where lines end close together, one above the other."""
    low, high = axes.get_ylim()
    gap, order = _LINE_HEIGHT * (high - low), sorted(ends, key=lambda seed: ends[seed][1])
    heights: list[float] = []
    for seed in order:
        heights.append(max([ends[seed][1], *(height + gap for height in heights[-1:])]))
    lift = np.mean([height - ends[seed][1] for seed, height in zip(order, heights, strict=True)] or [0.0])
    for seed, height in zip(order, heights, strict=True):
        axes.annotate(
            f"  {seed}",
            ends[seed],
            (ends[seed][0], height - lift),
            va="center",
            fontsize=7,
            color="#52606d",
            annotation_clip=False,
        )


def learning_curve(histories: Sequence[History]) -> tuple[str, str]:
    """The metric that shows the learning of runs, and its name for an axis: the return, or the mean reward
    where no episode has ended."""
    names = {
        name for history in histories for row in history for name, value in row.items() if value is not None
    }
    if "return_after" in names:
        return "return_after", "mean return of an episode"
    if "return" not in names and "mean_reward" in names:
        return "mean_reward", "mean reward of a step"
    return "return", "mean return of an episode"


def picture(title: str, draw: Callable[..., None], panels: int = 2) -> bytes:
    """A PNG of panels, at most three side by side, whose axes `draw` is given."""
    with context(["default", {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}]):
        rows = -(-panels // 3)
        figure = Figure(figsize=(12.5 if panels > 2 else 9.2, 3.9 * rows), layout="constrained")
        draw(*(figure.add_subplot(rows, min(panels, 3), i + 1) for i in range(panels)))
        figure.suptitle(title, fontsize=11)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
