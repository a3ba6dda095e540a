"""Finished runs as a comparison reads them, and groups of runs that differ in nothing but the seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from surefoot.experiment import Config
from surefoot.experiment.files import quoted
from surefoot.experiment.folder import RunFolder, is_checkpoint, run_folders
from surefoot.experiment.metrics import read_metrics
from surefoot.experiment.serialise import flat_options, load_config
from surefoot.options import UserError

_IGNORED = ("seed", "preset", "checkpoint-every", "checkpoints-kept", "kept-every")
"""Options that make no difference between methods."""
_IN_A_LABEL = 2
"""Most differences that name a group; a group with more has its folder's name."""


@dataclass(frozen=True)
class FinishedRun:
    """A run without its checkpoints."""

    path: Path
    config: Config
    metrics: list[dict[str, Any]]
    returns: Float[np.ndarray, "step task"]
    """The mean return of each held-out task, before adaptation and after each step of it; no rows of a run
    that is still training."""

    @classmethod
    def read_unfinished(cls, path: Path) -> "FinishedRun":
        """A run as it is by now, without its evaluation. Raises `UserError` if it is damaged."""
        folder = RunFolder.open(path)
        return cls(path, load_config(folder.config), read_metrics(folder.metrics), np.zeros((0, 0)))

    @classmethod
    def read(cls, path: Path) -> "FinishedRun":
        """Raises `UserError` if the run is damaged, or has not been evaluated as it is now."""
        folder = RunFolder.open(path)
        config, metrics = load_config(folder.config), read_metrics(folder.metrics)
        if not metrics:
            raise UserError(f"{path} has no metrics; train it: surefoot resume {quoted(path)}")
        if not folder.evaluation.exists():
            _must_not_have_failed(path, metrics[-1])
            raise UserError(
                f"{path} has not been evaluated, which ends its training: surefoot resume {quoted(path)}"
            )
        try:
            evaluation = json.loads(folder.evaluation.read_text(encoding="utf-8"))
            returns = np.array([row["tasks"] for row in evaluation["returns"]], float)
            iteration = int(evaluation["iteration"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{folder.evaluation} is damaged: it holds no returns. Make it again: move it away, then "
                f"surefoot resume {quoted(path)}"
            ) from error
        if returns.ndim != 2 or not returns.size or not np.isfinite(returns).all():
            raise UserError(f"{folder.evaluation} is damaged: its returns are not a table of finite numbers.")
        if iteration != metrics[-1]["iteration"]:
            _must_not_have_failed(path, metrics[-1])
            raise UserError(
                f"{path} is at iteration {metrics[-1]['iteration']} and was evaluated at iteration "
                f"{iteration}; finish it: surefoot resume {quoted(path)}"
            )
        return cls(path, config, metrics, returns)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The configuration by the names of the command line, without what makes no difference."""
        flat = flat_options(self.config)
        return {name: value for name, value in flat.items() if name not in _IGNORED}

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.config.seed

    @property
    def adapts(self) -> bool:
        """Whether the run trains a policy that adapts to tasks."""
        return self.config.algorithm.adapts

    @property
    def steps(self) -> float | None:
        """Steps of the environment in training; None of a run whose metrics lack them."""
        steps = self.metrics[-1].get("steps") if self.metrics else None
        return None if steps is None else float(steps)

    @property
    def hours(self) -> float:
        """Wall-clock hours of training; seeds that were trained in one program share theirs."""
        return sum(row.get("seconds") or 0.0 for row in self.metrics) / 3600

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps of the environment (or iterations, if there is no count of steps) and the metric, without
        iterations in which it is unknown."""
        along = "steps" if self.steps is not None else "iteration"
        known = [row for row in self.metrics if row.get(name) is not None and row.get(along) is not None]
        x, y = (np.array([row[key] for row in known], float) for key in (along, name))
        return x, y


def _must_not_have_failed(path: Path, last: dict[str, Any]) -> None:
    """Raises `UserError` if the last iteration's loss was not finite: to go on would fail again."""
    if "loss" in last and last["loss"] is None:
        raise UserError(
            f"{path} stopped in iteration {last['iteration']}, where its loss was not finite, and has no "
            "result. Name the other runs without it."
        )


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    differences: Mapping[str, Any]
    """The options in which not all groups agree, and their values here: None where there is no such one."""
    runs: Sequence[FinishedRun]

    @property
    def seeds(self) -> list[int]:
        """The training seeds."""
        return [run.seed for run in self.runs]


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders that `paths` name: runs, and folders of several seeds. Raises `UserError` if one names
    neither."""
    found: dict[Path, Path] = {}
    for path in paths:
        if is_checkpoint(path):
            raise UserError(f"{path} is a checkpoint, and whole runs are wanted here; name the run's folder.")
        for run in run_folders(path) or [RunFolder.open(path).path]:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def group_runs(runs: Sequence[FinishedRun]) -> list[Group]:
    """The runs in groups, in the order in which they were named. Where the same options and seed are there
    twice, as before and after a change of the code, each folder's runs with these options are a group of
    their own. Raises `UserError` for runs of different environments."""
    kinds: list[list[FinishedRun]] = []
    for run in runs:
        alike = next((kind for kind in kinds if kind[0].options == run.options), None)
        if alike is None:
            kinds.append(alike := [])
        alike.append(run)
    groups = [group for kind in kinds for group in _apart(kind)]
    firsts = [group[0] for group in groups]
    names = {name: None for run in firsts for name in run.options}
    apart = [name for name in names if len({repr(run.options.get(name)) for run in firsts}) > 1]
    of_env = [name for name in apart if name == "env" or name.startswith("env.")]
    if of_env:
        name, one = of_env[0], firsts[0]
        other = next(x for x in firsts if repr(x.options.get(name)) != repr(one.options.get(name)))
        here, there = (f"{x.path} has {name} {shown_value(x.options.get(name))}" for x in (one, other))
        raise UserError(f"Runs of different environments cannot be compared: {here} and {there}.")
    differences = [{name: run.options.get(name) for name in apart} for run in firsts]
    labels = [_label(different, run.path) for different, run in zip(differences, firsts, strict=True)]
    labels = [
        label if labels.count(label) == 1 else f"{label} ({run.path})"
        for label, run in zip(labels, firsts, strict=True)
    ]
    return [Group(*parts) for parts in zip(labels, differences, groups, strict=True)]


def _apart(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """Runs with the same options: one group if no seed is there twice, and otherwise one for each folder,
    with another for what a folder itself has twice."""
    if len({run.seed for run in runs}) == len(runs):
        return [list(runs)]
    groups: dict[tuple[Path, int], list[FinishedRun]] = {}
    for i, run in enumerate(runs):
        folder = run.path.resolve().parent
        before = sum(x.seed == run.seed and x.path.resolve().parent == folder for x in runs[:i])
        groups.setdefault((folder, before), []).append(run)
    return list(groups.values())


def shown_value(value: Any) -> str:
    """An option's value as it is written on the command line."""
    if isinstance(value, list):
        return " ".join(map(shown_value, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _label(differences: Mapping[str, Any], path: Path) -> str:
    """The values of a few differences, or the name of the folder. An option that the group does not have is
    no name for it."""
    known = {name: value for name, value in differences.items() if value is not None}
    if 0 < len(known) <= _IN_A_LABEL:
        return ", ".join(f"{name} {shown_value(value)}" for name, value in known.items())
    name = path.resolve().name
    is_seed = name.startswith("seed") and name[4:].isdecimal()
    return path.resolve().parent.name if is_seed else name
