"""A summary of the runs of several seeds, and its picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from surefoot.experiment import Run
from surefoot.experiment.files import write_atomically
from surefoot.experiment.metrics import read_metrics
from surefoot.report.finish import finish
from surefoot.report.learning import LINE, History, draw_training, learning_curve, name_lines, picture
from surefoot.statistics import interquartile_mean, interval

_MARGIN = 0.04
"""Margin above and below what both panels show, as a share of it: a marker at the edge is whole."""


def finish_seeds(runs: list[Run], out: Path, failed: Sequence[Run] = ()) -> dict[str, Any]:
    """Finishes every run, leaves `seeds.json` and `seeds.png` beside them, and returns what the first holds.

    For the trained policy, before adaptation (step 0) and after each step of it: the mean return that each
    seed reaches, and over seeds their interquartile mean with its 95% interval, their mean and their standard
    deviation. A policy that does not adapt has step 0 alone. `failed` are runs that stopped early, whose
    seeds are named and have no returns.
    """
    returns = np.array([sampled.returns.mean(axis=1) for sampled, _ in map(finish, runs)])
    config = runs[0].config
    summary = {
        "preset": config.preset,
        "iterations": [run.iteration for run in runs],
        "seeds": [run.config.seed for run in runs],
        "failed": [run.config.seed for run in failed],
        "returns": [{"step": step, **summarise(row[:, None])} for step, row in enumerate(returns.T)],
    }
    histories = [read_metrics(run.folder.metrics) for run in runs]
    title = f"{config.preset}, {config.iterations} iterations, {len(runs)} seeds"
    write_atomically(out / "seeds.png", draw_seeds(title, summary["seeds"], returns, histories))
    write_atomically(out / "seeds.json", json.dumps(summary, indent=2).encode() + b"\n")
    return summary


def summarise(scores: Float[np.ndarray, "seed task"], scheme: str = "seeds-within-tasks") -> dict[str, Any]:
    """The returns of seeds: each, the interquartile mean of all scores with its 95% interval, mean and
    standard deviation. One seed has neither interval nor deviation."""
    several, returns = len(scores) > 1, scores.mean(axis=1)
    found = interval(scores, scheme=scheme) if several else None
    return {
        "seeds": returns.tolist(),
        "iqm": float(interquartile_mean(scores)),
        "ci95": [found.low, found.high] if found else None,
        "mean": float(np.mean(returns)),
        "standard_deviation": float(np.std(returns, ddof=1)) if several else None,
    }


def draw_seeds(
    title: str, seeds: list[int], returns: Float[np.ndarray, "seed step"], histories: list[History]
) -> bytes:
    """A PNG: the return of every seed over training, its seed beside the line; and what the trained policies
    reach, before adaptation and after each step of it, with the 95% interval of the interquartile mean over
    seeds."""
    adapts = returns.shape[1] > 1

    def draw(curve: Axes, end: Axes) -> None:
        draw_training(curve, histories, seeds)
        (_draw_steps if adapts else _draw_ends)(end, seeds, returns)
        if learning_curve(histories)[0] != "mean_reward":  # one scale for both, which shows all of either
            lows, highs = zip(curve.get_ylim(), end.get_ylim(), strict=True)
            low, high = min(lows), max(highs)
            margin = _MARGIN * (high - low)
            for axes in (curve, end):
                axes.set(ylim=(low - margin, high + margin))
        _draw_interval(end, returns)

    return picture(title, draw)


def _draw_steps(axes: Axes, seeds: list[int], returns: np.ndarray) -> None:
    """A pale line for each seed over the steps of adaptation."""
    steps = np.arange(returns.shape[1])
    axes.plot(steps, returns.T, color=LINE, alpha=0.35, linewidth=0.8)
    last = {seed: (float(steps[-1]), float(row[-1])) for seed, row in zip(seeds, returns, strict=True)}
    name_lines(axes, last)
    axes.set(title="After training, on held-out tasks", xlabel="steps of adaptation", xticks=steps)


def _draw_ends(axes: Axes, seeds: list[int], returns: np.ndarray) -> None:
    """A point for each seed."""
    axes.plot(range(len(seeds)), returns[:, 0], "o", color=LINE)
    axes.set(title="After training", xlabel="seed")
    axes.set_xticks(range(len(seeds)), [str(seed) for seed in seeds])
    axes.margins(x=0.15)


def _draw_interval(axes: Axes, returns: np.ndarray) -> None:
    """The interquartile mean over seeds and its interval: of each step, or of the only one a band."""
    rows = [summarise(row[:, None]) for row in returns.T]
    middle = np.array([row["iqm"] for row in rows])
    label = "interquartile mean" + ", 95% interval" * (len(returns) > 1)
    if len(rows) == 1:
        axes.axhline(middle[0], color="black", linewidth=1.2, label=f"interquartile mean {middle[0]:.1f}")
        if rows[0]["ci95"]:
            axes.axhspan(*rows[0]["ci95"], color=LINE, alpha=0.12, linewidth=0, label="95% interval")
    else:
        ends = np.array([row["ci95"] or [row["iqm"]] * 2 for row in rows])
        look = {"color": "black", "marker": "o", "markersize": 4, "capsize": 4, "zorder": 3}
        axes.errorbar(range(len(rows)), middle, yerr=np.abs(ends.T - middle), label=label, **look)
    axes.legend(frameon=False)
