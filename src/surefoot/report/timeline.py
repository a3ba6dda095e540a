"""The picture of a timeline: workers and the learner as rows, tasks as colours, waiting hatched."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.style import context

from surefoot.experiment.timeline import IterationTimeline

_WAITING = {"facecolor": "#eef1f4", "edgecolor": "#c3cbd3", "hatch": "///", "linewidth": 0.0}
_STARTING = {"facecolor": "#b8c2cc", "edgecolor": "#7b8794", "hatch": "...", "linewidth": 0.0}
_LEARNING = {"facecolor": "#323f4b", "edgecolor": "none"}
_NO_TASK = {"compile": _STARTING, "learn": _LEARNING}
"""The looks of the learner's work that is for no task."""
_HEIGHT = 0.76
_THIN = 0.002
"""Width of a bar without an edge, as a share of the iteration."""
_TASKS_NAMED = 10
"""Most tasks that the legend names."""


def draw_timeline(title: str, iterations: Sequence[IterationTimeline]) -> bytes:
    """A PNG with a panel for each iteration. A bar of a worker is a job, one of the learner is a task's
    adaptation or the learning step; episodes after adaptation are paler."""
    rows = sum(it.workers + 1 for it in iterations)
    with context(["default", {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}]):
        size = (10.5, 1.1 + 0.75 * len(iterations) + 0.3 * rows)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, fontsize=11)
        heights = [it.workers + 2 for it in iterations]
        panels = figure.subplots(len(iterations), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, it in zip(panels, iterations, strict=True):
            _draw_iteration(axes, it)
        panels[-1].set_xlabel("seconds since the iteration began")
        figure.legend(handles=_legend(iterations), loc="outside lower left", ncols=7, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _draw_iteration(axes: Axes, it: IterationTimeline) -> None:
    learner = it.workers
    last = max((job.phase or 0 for job in it.jobs), default=0)
    axes.set(xlim=(0, it.seconds), ylim=(learner + 0.5, -0.5), title=f"Iteration {it.iteration}")
    for row in range(it.workers + 1):
        _bar(axes, row, 0.0, it.seconds, _WAITING)
    for job in it.jobs:
        row, began = job.worker or 0, max(job.began or 0.0, 0.0)
        _bar(axes, row, max(job.started or 0.0, 0.0), began, _STARTING)
        _bar(axes, row, began, job.ended or 0.0, _look(job.task, pale=bool(last) and job.phase == last))
    for work in it.learner:
        look = _NO_TASK.get(work.kind) or _look(work.task, pale=work.kind == "prepare")
        _bar(axes, learner, work.started, work.ended, look)
    shares = [*it.utilisation(), sum(it.learner_share(work) for work in {one.kind for one in it.learner})]
    names = [*(f"worker {i}" for i in range(it.workers)), "learner"]
    labels = [f"{name}  {share:.0%}" for name, share in zip(names, shares, strict=True)]
    axes.set_yticks(range(len(labels)), labels)


def _bar(axes: Axes, row: int, start: float, end: float, look: dict[str, Any]) -> None:
    if end > start:
        # An edge would cover a thin bar.
        edge = {} if end - start > _THIN * axes.get_xlim()[1] else {"linewidth": 0.0}
        axes.barh(row, end - start, left=start, height=_HEIGHT, **{**look, **edge})


def _look(task: int | None, *, pale: bool) -> dict[str, Any]:
    """The colour of a task, or of one without a number, with a white edge that separates bars."""
    # Even entries of the map are full colours, odd ones the same and pale.
    colour = "#7b8794" if task is None else colormaps["tab20"](2 * (task % _TASKS_NAMED) + pale)
    return {"facecolor": colour, "edgecolor": "white", "linewidth": 0.4}


def _legend(iterations: Sequence[IterationTimeline]) -> list[Patch]:
    """Tasks, if they are few, and the looks that mean no task."""
    jobs = [job for it in iterations for job in it.jobs]
    tasks = sorted({job.task for job in jobs if job.task is not None})
    named = [Patch(**_look(task, pale=False), label=f"task {task}") for task in tasks[:_TASKS_NAMED]]
    if len(tasks) > _TASKS_NAMED:
        named = [Patch(**_look(0, pale=False), label=f"{len(tasks)} tasks, {_TASKS_NAMED} colours in turn")]
    if any(job.task is None for job in jobs):
        named.append(Patch(**_look(None, pale=False), label="a call for no task"))
    if any(job.phase for job in jobs):
        named.append(Patch(**_look(0, pale=True), label="pale: after adaptation"))
    looks = {"starts and compiles": _STARTING, "learning step": _LEARNING, "waiting": _WAITING}
    return [*named, *(Patch(**look, label=label) for label, look in looks.items())]
