"""The picture of learning one task: how the return grew, and what the policy is worth at the end."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from surefoot.experiment.evaluation import EvaluationResult

_LINE = "#0b6e99"
History = list[dict[str, Any]]


def draw_learning(result: EvaluationResult, history: History) -> bytes:
    """A PNG: the return over training, and the returns of the trained policy's evaluation episodes.
    `history` is a run's metrics."""

    def draw(curve: Axes, end: Axes) -> None:
        _draw_curve(curve, history)
        returns = result.episode_returns[0].ravel()
        end.hist(returns, bins=min(30, max(1, len(returns) // 4)), color=_LINE, alpha=0.85)
        mean = float(np.mean(returns))
        end.axvline(mean, color="black", linewidth=1.2, label=f"mean {mean:.1f}")
        end.set(title=f"{len(returns)} episodes after training", xlabel="return", ylabel="episodes")
        end.legend(frameon=False)

    return picture(f"{result.preset}, {result.iteration} iterations", draw)


def _draw_curve(axes: Axes, history: History) -> None:
    by_steps = bool(history) and "steps" in history[-1]
    x = np.array([row["steps" if by_steps else "iteration"] for row in history])
    shown, named = learning_curve([history])
    y = np.array([np.nan if row.get(shown) is None else row[shown] for row in history])
    axes.plot(x, y, color=_LINE, linewidth=1.4)
    axes.set(
        title="Training",
        xlabel="steps of the environment" if by_steps else "iteration",
        ylabel=named,
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
    """A PNG of panels side by side, whose axes `draw` is given."""
    with context(["default", {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}]):
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        draw(*figure.subplots(1, panels, squeeze=False)[0])
        figure.suptitle(title, fontsize=11)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
