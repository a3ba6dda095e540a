"""The picture of adaptation: learning over training, return after each inner step, and paths where there is a
plane."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from surefoot.experiment.evaluation import EvaluationResult
from surefoot.report.learning import BEFORE, LINE, History, draw_training, picture

_GOAL = "#d1495b"
_GOALS_SHOWN = 4


def draw_adaptation(result: EvaluationResult, env: Any, history: History) -> bytes:
    """A PNG: how the return grew in training, the return after 0, 1, … steps with its 95% interval over
    tasks, and, for goals on a plane, the paths to a few of them before and after adaptation. `history` is
    a run's metrics."""

    def draw(curve: Axes, returns: Axes, *plane: Axes) -> None:
        draw_training(curve, [history])
        _draw_returns(returns, result)
        for axes in plane:
            _draw_paths(axes, result)

    panels = 3 if env.has_goals_on_a_plane else 2
    return picture(f"{result.preset}, {result.iteration} iterations", draw, panels)


def _draw_returns(axes: Axes, result: EvaluationResult) -> None:
    steps = np.arange(len(result.returns))
    rows = result.summary()["returns"]
    means = np.array([row["mean"] for row in rows])
    bounds = np.array([row["ci95"] or [row["mean"]] * 2 for row in rows])
    axes.plot(steps, result.returns, color=BEFORE, alpha=0.35, linewidth=0.7)
    errors = np.abs(bounds.T - means)
    axes.errorbar(steps, means, yerr=errors, color=LINE, marker="o", capsize=4, linewidth=2, zorder=3)
    for step, mean in enumerate(means):
        label = {
            "color": LINE,
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
    phases = [(result.rollouts[0], BEFORE, "before adaptation")]
    if len(result.rollouts) > 1:
        phases.append((result.rollouts[-1], LINE, f"after {result.options.steps} steps"))
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
