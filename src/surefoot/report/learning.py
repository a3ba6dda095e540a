"""The picture of learning one task: how the return grew, and what the policy is worth at the end."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from surefoot.experiment.evaluation import EvaluationResult, confidence_interval

_LINE, _PALE = "#0b6e99", "#9aa5b1"
History = list[dict[str, Any]]


def draw_learning(result: EvaluationResult, history: History) -> bytes:
    """A PNG: the return over training, and the returns of the trained policy's evaluation episodes.
    `history` is a run's metrics."""

    def draw(curve: Axes, end: Axes) -> None:
        _draw_curves(curve, [history])
        returns = result.episode_returns[0].ravel()
        end.hist(returns, bins=min(30, max(1, len(returns) // 4)), color=_LINE, alpha=0.85)
        mean = float(np.mean(returns))
        end.axvline(mean, color="black", linewidth=1.2, label=f"mean {mean:.1f}")
        end.set(title=f"{len(returns)} episodes after training", xlabel="return", ylabel="episodes")
        end.legend(frameon=False)

    return _picture(f"{result.preset}, {result.iteration} iterations", draw)


def draw_seeds(title: str, seeds: list[int], means: np.ndarray, histories: list[History]) -> bytes:
    """A PNG: the return of every seed over training and their mean, and the `means` that the trained policies
    of `seeds` reached, with the 95% interval of what they come to on average."""

    def draw(curve: Axes, end: Axes) -> None:
        _draw_curves(curve, histories)
        end.plot(range(len(means)), means, "o", color=_LINE)
        mean = float(np.mean(means))
        end.axhline(mean, color="black", linewidth=1.2, label=f"mean {mean:.1f}")
        end.set(title="After training", xlabel="seed", ylabel="mean return of an episode")
        end.set_xticks(range(len(means)), [str(seed) for seed in seeds])
        # One scale for both, which shows all of either.
        low, high = zip(curve.get_ylim(), end.get_ylim(), strict=True)
        for axes in (curve, end):
            axes.set(ylim=(min(low), max(high)))
        interval = confidence_interval(means)
        if interval is not None:  # of few seeds it can be wider than the picture
            end.axhspan(*interval, color=_LINE, alpha=0.12, linewidth=0, label="95% interval")
        end.margins(x=0.15)
        end.legend(frameon=False)

    return _picture(title, draw)


def _draw_curves(axes: Axes, histories: list[History]) -> None:
    """Each history pale and their mean on top, where there are several."""
    by_steps = all("steps" in history[-1] for history in histories if history)
    along = "steps" if by_steps else "iteration"
    several = len(histories) > 1
    curves = []
    for history in histories:
        x = np.array([row[along] for row in history])
        y = np.array([np.nan if row.get("return") is None else row["return"] for row in history])
        label = "a seed" if several and not curves else None
        axes.plot(x, y, color=_PALE if several else _LINE, linewidth=0.8 if several else 1.4, label=label)
        curves.append((x, y))
    if several and len({len(x) for x, _ in curves}) == 1:
        x, y = (np.stack(parts) for parts in zip(*curves, strict=True))
        known = ~np.isnan(y).all(axis=0)
        axes.plot(
            x.mean(axis=0)[known], np.nanmean(y[:, known], axis=0), color=_LINE, linewidth=2, label="mean"
        )
    axes.set(
        title="Training",
        xlabel="steps of the environment" if by_steps else "iteration",
        ylabel="mean return of an episode",
    )
    if several:
        axes.legend(frameon=False)


def _picture(title: str, draw: Any) -> bytes:
    with context(["default", {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}]):
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        draw(*figure.subplots(1, 2))
        figure.suptitle(title, fontsize=11)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
