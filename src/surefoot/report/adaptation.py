"""The picture of adaptation: learning over training, return after each inner step, and paths where there is a
plane."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from surefoot.experiment.evaluation import EvaluationResult

_BEFORE, _AFTER, _GOAL = "#9aa5b1", "#0b6e99", "#d1495b"
_GOALS_SHOWN = 4


def draw_adaptation(result: EvaluationResult, env: Any, history: list[dict[str, Any]]) -> bytes:
    """A PNG: how the return grew in training, the return after 0, 1, … steps with its 95% interval over
    tasks, and, for goals on a plane, the paths to a few of them before and after adaptation. `history` is
    a run's metrics."""
    paths = env.has_goals_on_a_plane
    with context(["default", {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}]):
        figure = Figure(figsize=(12.5 if paths else 8.2, 3.9), layout="constrained")
        panels = figure.subplots(1, 3 if paths else 2)
        figure.suptitle(f"{result.preset}, {result.iteration} iterations", fontsize=11)
        _draw_history(panels[0], history)
        _draw_returns(panels[1], result)
        if paths:
            _draw_paths(panels[2], result)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _draw_history(axes: Axes, history: list[dict[str, Any]]) -> None:
    curves = {"return_before": ("before adaptation", _BEFORE), "return_after": ("after adaptation", _AFTER)}
    iterations = [row["iteration"] for row in history]
    for name, (label, colour) in curves.items():
        values = [np.nan if row.get(name) is None else row[name] for row in history]
        axes.plot(iterations, values, color=colour, label=label, linewidth=1.4)
    axes.set(title="Training", xlabel="iteration", ylabel="mean return of an episode")
    axes.legend(frameon=False)


def _draw_returns(axes: Axes, result: EvaluationResult) -> None:
    steps = np.arange(len(result.returns))
    rows = result.summary()["returns"]
    means = np.array([row["mean"] for row in rows])
    bounds = np.array([row["ci95"] or [row["mean"]] * 2 for row in rows])
    axes.plot(steps, result.returns, color=_BEFORE, alpha=0.35, linewidth=0.7)
    errors = np.abs(bounds.T - means)
    axes.errorbar(steps, means, yerr=errors, color=_AFTER, marker="o", capsize=4, linewidth=2, zorder=3)
    for step, mean in enumerate(means):
        label = {
            "color": _AFTER,
            "zorder": 4,
            "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        }
        axes.annotate(f"{mean:.1f}", (step, mean), xytext=(8, -14), textcoords="offset points", **label)
    axes.set(
        title=result.scope,
        xlabel="steps of adaptation",
        ylabel="return (mean and 95% interval; grey: tasks)",
        xticks=steps,
    )
    axes.margins(x=0.15)


def _draw_paths(axes: Axes, result: EvaluationResult) -> None:
    """The first episode of each goal shown, before any adaptation and after all of it."""
    goals = np.asarray(result.tasks)[:_GOALS_SHOWN]
    phases = [(result.rollouts[0], _BEFORE, "before adaptation")]
    if len(result.rollouts) > 1:
        phases.append((result.rollouts[-1], _AFTER, f"after {result.options.steps} steps"))
    for rollout, colour, label in phases:
        for goal in range(len(goals)):
            path = episode_path(rollout, goal)
            axes.plot(*path.T, color=colour, linewidth=0.9, alpha=0.85, label=None if goal else label)
    axes.plot(*goals.T, "*", color=_GOAL, markersize=12, label="goals", zorder=4, linestyle="none")
    axes.plot(0, 0, "s", color="black", markersize=5, label="start", zorder=4, linestyle="none")
    axes.set(title="Paths on the plane", aspect="equal", xlabel="x", ylabel="y")
    reach = 1.3 * max(0.5, float(np.abs(goals).max()))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes.legend(frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def episode_path(rollout: Any, task: int) -> np.ndarray:
    """Positions of the first episode, the final one included: `[time 2]`."""
    valid = np.asarray(rollout.valid)[task, 0]
    positions = np.asarray(rollout.observations)[task, 0][valid]
    return np.concatenate([positions, np.asarray(rollout.final_observations)[task, 0]])
