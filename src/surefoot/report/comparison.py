"""Comparison of groups of runs: what each reaches, by how much they differ, and whether the seeds can tell.

A score is the mean return of a run on a held-out task after training (and adaptation, where it adapts). Of a
policy that does not adapt there is one score a run, its task being part of the training seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from surefoot.options import UserError
from surefoot.report.finished import FinishedRun, Group, shown_value
from surefoot.statistics import (
    FEWEST_SEEDS,
    FEWEST_TASKS,
    Interval,
    difference,
    improvement_interval,
    interval,
)

_GRID = 100
"""Points of a learning curve."""
_ALIKE = 1.02
"""Ratio of numbers of steps up to which runs count as equally long."""


@dataclass(frozen=True)
class Curve:
    """A metric over training, with its interval over seeds."""

    steps: Float[np.ndarray, " points"]
    estimate: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Against:
    """The difference of a group from the baseline."""

    difference: Interval
    improvement: Interval
    """The probability that a run of the group scores higher than one of the baseline."""
    paired: bool
    """Whether both have the same seeds, and the difference is that of pairs."""
    lacking: str
    """The kind that both have too few of for a verdict: `seeds`, `tasks`, or none."""

    @property
    def verdict(self) -> str:
        """The verdict of the seeds, in a few words."""
        if self.lacking:
            return f"too few {self.lacking}"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "not told apart"


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, compared with one of them."""

    groups: Sequence[Group]
    baseline: int = 0
    """The number of the group that the others are compared with."""
    step: int | None = None
    """Number of steps of adaptation after which the runs are compared; by default all that were evaluated."""
    seed: int = 0
    """Random seed of the bootstrap."""

    def __post_init__(self) -> None:
        """Raises `UserError` where a group has one seed, or runs cannot be compared."""
        for group in self.groups:
            if len(group.runs) == 1:
                raise UserError(
                    f"Nothing can be said of {group.label} with one seed, {group.runs[0].path}: train "
                    f"more, as surefoot train … --seeds {FEWEST_SEEDS}."
                )
        if len({run.adapts for run in self.runs}) == 2:
            one, other = (next(run.path for run in self.runs if run.adapts is kind) for kind in (True, False))
            raise UserError(
                f"{one} adapts to held-out tasks and {other} learns one task: their scores are of different "
                "tasks and cannot be compared."
            )
        if self.step is not None and not 0 <= self.step < self.evaluated_steps:
            raise UserError(
                f"step is {self.step}; these runs were evaluated after 0 to {self.evaluated_steps - 1} steps "
                "of adaptation."
            )

    @property
    def runs(self) -> list[FinishedRun]:
        """All runs."""
        return [run for group in self.groups for run in group.runs]

    @property
    def adapts(self) -> bool:
        """Whether every run adapts to tasks."""
        return all(run.adapts for run in self.runs)

    @property
    def evaluated_steps(self) -> int:
        """Number of adaptation steps, 0 included, after which all runs were evaluated."""
        return min(len(run.returns) for run in self.runs)

    @property
    def last_step(self) -> int:
        """The step of adaptation after which the runs are compared."""
        return self.evaluated_steps - 1 if self.step is None else self.step

    @property
    def score(self) -> str:
        """The score in words."""
        if not self.adapts:
            return "mean return after training"
        return f"mean return after {self.last_step} step{'s' * (self.last_step != 1)} of adaptation"

    @cached_property
    def same_tasks(self) -> bool:
        """Whether all runs adapt to, and were evaluated on, the same tasks of the family."""
        kinds = {(run.config.evaluation.seed, run.returns.shape[1]) for run in self.runs}
        return self.adapts and len(kinds) == 1

    @property
    def has_few_tasks(self) -> bool:
        """Whether tasks are resampled that are too few to stand for their family."""
        return self.same_tasks and self.runs[0].returns.shape[1] < FEWEST_TASKS

    @property
    def scheme(self) -> str:
        """The scheme of resampling: held-out tasks are a sample of the family."""
        return "seeds-and-tasks" if self.same_tasks else "seeds-within-tasks"

    def scores(self, group: Group, step: int | None = None) -> Float[np.ndarray, "seed task"]:
        """The score of each run on each task, or its mean where runs were not evaluated on the same tasks."""
        chosen = self.last_step if step is None else step
        returns = [run.returns[chosen] for run in group.runs]
        return np.stack([x if self.same_tasks else x.mean(keepdims=True) for x in returns])

    def reached(self, group: Group, step: int | None = None) -> Interval:
        """The interquartile mean of a group's scores."""
        return interval(self.scores(group, step), scheme=self.scheme, seed=self.seed)

    def adaptation(self, group: Group) -> list[Interval]:
        """The same before adaptation and after each step."""
        return [self.reached(group, step) for step in range(self.evaluated_steps)]

    def against(self, group: Group) -> Against:
        """The group beside the baseline."""
        base = self.groups[self.baseline]
        paired = sorted(group.seeds) == sorted(base.seeds)
        ours, theirs = (self.scores(x)[np.argsort(x.seeds)] for x in (group, base))
        apart = difference(ours, theirs, paired=paired, scheme=self.scheme, seed=self.seed)
        improves = improvement_interval(*(x.mean(axis=1, keepdims=True) for x in (ours, theirs)))
        lacking = "tasks" * self.has_few_tasks
        if min(len(group.runs), len(base.runs)) < FEWEST_SEEDS:
            lacking = "seeds"
        return Against(apart, improves, paired, lacking)

    def curve(self, group: Group, metric: str) -> Curve | None:
        """The interquartile mean of a metric over training, on steps that all runs of the group have reached;
        None where it is not known of every run."""
        curves = [run.curve(metric) for run in group.runs]
        if not all(len(x) for x, _ in curves):
            return None
        begin, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
        if begin > end:
            return None
        longest = max(len(x) for x, _ in curves)
        steps = np.linspace(begin, end, min(_GRID, longest))
        values = np.stack([np.interp(steps, x, y) for x, y in curves])
        found = [interval(values[:, [i]], seed=self.seed, resamples=1000) for i in range(len(steps))]
        estimate, low, high = (
            np.array([getattr(one, part) for one in found]) for part in ("estimate", "low", "high")
        )
        return Curve(steps, estimate, low, high)

    def notes(self) -> list[str]:
        """Warnings about these figures: too few seeds or tasks, other tasks, other numbers of steps."""
        notes = []
        few = [
            f"{group.label} ({len(group.runs)})" for group in self.groups if len(group.runs) < FEWEST_SEEDS
        ]
        if few:
            notes.append(
                f"Too few seeds to tell: {', '.join(few)}. With fewer than {FEWEST_SEEDS} the 95% intervals "
                "hold the truth less often."
            )
        if self.has_few_tasks:
            notes.append(
                f"Too few held-out tasks to tell: {self.runs[0].returns.shape[1]}. With fewer than "
                f"{FEWEST_TASKS} the 95% intervals hold the truth less often. Train with --evaluation.tasks "
                f"{FEWEST_TASKS} or more."
            )
        if self.adapts and not self.same_tasks:
            notes.append(
                "The runs were evaluated on different tasks, and are compared by their means over tasks."
            )
        steps = [run.steps for run in self.runs if run.steps is not None]
        if steps and max(steps) > _ALIKE * min(steps):
            notes.append(
                f"The runs did not sample alike: {min(steps):,.0f} to {max(steps):,.0f} steps of the "
                "environment."
            )
        return notes

    def summary(self) -> dict[str, Any]:
        """The comparison as `surefoot compare --json` prints it."""
        base = self.groups[self.baseline]
        return {
            "score": self.score,
            "statistic": "interquartile mean",
            "resampled": self.scheme if self.same_tasks else "seeds",
            "baseline": base.label,
            "groups": [self._summary_of(group, group is not base) for group in self.groups],
            "notes": self.notes(),
        }

    def _summary_of(self, group: Group, compared: bool) -> dict[str, Any]:
        reached = self.reached(group)
        steps = [run.steps for run in group.runs if run.steps is not None]
        found: dict[str, Any] = {
            "label": group.label,
            "options": dict(group.differences),
            "runs": [str(run.path) for run in group.runs],
            "seeds": group.seeds,
            "scores": [float(x) for x in self.scores(group).mean(axis=1)],
            **_interval(reached, "iqm"),
            "steps": float(np.median(steps)) if steps else None,
            "hours": float(np.median([run.hours for run in group.runs])),
        }
        if compared:
            against = self.against(group)
            found["against_baseline"] = {
                "difference": _interval(against.difference),
                "paired_by_seed": against.paired,
                "probability_of_improvement": _interval(against.improvement),
                "verdict": against.verdict,
            }
        if self.adapts:
            found["adaptation"] = [
                {"step": step, **_interval(one, "iqm")} for step, one in enumerate(self.adaptation(group))
            ]
        return found


def _interval(one: Interval, name: str = "estimate") -> dict[str, Any]:
    return {name: one.estimate, "ci95": [one.low, one.high]}


def differences_in_words(groups: Sequence[Group]) -> list[str]:
    """A line for each option in which the groups differ, with its value in each."""
    return [
        f"{name}: " + ", ".join(shown_value(group.differences[name]) for group in groups)
        for name in groups[0].differences
    ]
