"""Reproducing a published table: the runs and trials that it needs, in a folder that can be gone on with."""

import json
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from surefoot.experiment import Config
from surefoot.experiment.files import make_folder, write_atomically
from surefoot.experiment.many import Place, go_on_many, seeds_of
from surefoot.options import UserError, must_be_one_of
from surefoot.reference import total_rewards
from surefoot.report.sweep import evaluate_missing
from surefoot.reproduction.summary import draw_reproduction, summarise_table
from surefoot.reproduction.tables import TABLES, Agent, Row

_QUICK = {"tasks": 16, "episodes": 5, "problems": 50, "iterations": 2}
"""The largest numbers of a quick run."""


class InterruptedTrainingError(Exception):
    """Training was interrupted; the folder can be gone on with."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(f"interrupted by {received.name}")
        self.signal = received


def reproduce(
    name: str,
    out: str | Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on: Place = "here",
    together: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Runs what a published table needs, leaves `reproduce.json` and `reproduce.png` in `out`, and returns
    what the first holds: for each figure the mean over seeds, its 95% interval and the published one.

    A folder that is there already is gone on with: runs that are complete are not repeated. `quick` makes
    everything so small that the figures mean nothing. Seeds are trained one after another; or side by side in
    one program where environments are written in JAX, if `together`; or `on` a Ray cluster. Raises
    `UserError` for a name that is none, or a folder of other options, and `InterruptedTrainingError`.
    """
    must_be_one_of("published table", name, TABLES, "`surefoot list reproduce` shows them.")
    table, out = TABLES[name], Path(out)
    if quick:
        table = replace(table, rows=tuple(map(_quick, table.rows)))
    runs = {
        row.method: {f"{_folder(row)}/{seed}": config for seed, config in seeds_of(row.entry, seeds).items()}
        for row in table.rows
        if isinstance(row.entry, Config)
    }
    make_folder(out)
    _claim(out, {"name": name, "quick": quick})
    say: Callable[[str], None] = (lambda _: None) if quiet else lambda text: print(text, file=sys.stderr)
    failed = _train(runs, out, on, together, quiet, say)
    agents = {}
    for row in table.rows:
        if isinstance(row.entry, Agent):
            say(f"{row.method}: trials")
            agents[row.method] = _rated(row.entry, out / f"{_folder(row)}.json", seeds)
    folders = {
        method: [out / path for path in configs if out / path not in failed]
        for method, configs in runs.items()
    }
    summary = {"name": name, "quick": quick, **summarise_table(table, folders, agents, failed)}
    write_atomically(out / "reproduce.json", json.dumps(summary, indent=2, ensure_ascii=False).encode())
    write_atomically(out / "reproduce.png", draw_reproduction(summary))
    return summary


def _train(
    runs: Mapping[str, Mapping[str, Config]],
    out: Path,
    on: Place,
    together: bool,
    quiet: bool,
    say: Callable[[str], None],
) -> list[Path]:
    """Trains and evaluates the runs of each method, by their folders; returns those that failed."""
    every = {path: config for configs in runs.values() for path, config in configs.items()}
    failed: list[Path] = []
    for method, configs in {"all methods": every}.items() if on == "ray" else runs.items():
        say(f"{method}: {len(configs)} run{'s' * (len(configs) != 1)}")
        outcome = go_on_many(configs, out, quiet=quiet, on=on, together=together)
        if outcome.interrupted:
            raise InterruptedTrainingError(outcome.interrupted)
        failed += [run.folder.path for run in outcome.failed]
        say("evaluating …")
        evaluate_missing([run for run in outcome.runs if run.folder.path not in failed])
    return failed


def _claim(out: Path, wanted: dict[str, Any]) -> None:
    """Marks the folder as that of a table. Raises `UserError` if it is that of another one."""
    path = out / "table.json"
    if not path.exists():
        write_atomically(path, json.dumps(wanted).encode())
    elif (found := json.loads(path.read_text(encoding="utf-8"))) != wanted:
        quick = " --quick" * found["quick"]
        raise UserError(f"{out} holds `surefoot reproduce {found['name']}{quick}`; choose another --out.")


def _folder(row: Row) -> str:
    """The name of a method's folder, or file."""
    return re.sub(r"[^a-z0-9]+", "-", row.method.lower().replace("²", "2")).strip("-")


def _rated(entry: Agent, path: Path, seeds: int) -> list[float]:
    """The mean score of a reference agent on the problems of each seed, kept in a file as they come."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for seed in range(len(known), seeds):
        totals = total_rewards(
            entry.agent, entry.env, jax.random.key(seed), problems=entry.problems, episodes=entry.episodes
        )
        known.append(float(np.mean(totals)))
        write_atomically(path, json.dumps(known).encode())
    return known[:seeds]


def _quick(row: Row) -> Row:
    """The method at a size that takes seconds."""
    entry, small = row.entry, _QUICK
    if isinstance(entry, Agent):
        return replace(row, entry=replace(entry, problems=min(entry.problems, small["problems"])))
    algorithm: Any = entry.algorithm
    if hasattr(algorithm, "tasks"):
        algorithm = replace(algorithm, tasks=min(algorithm.tasks, small["tasks"]))
    evaluation = replace(
        entry.evaluation,
        tasks=min(entry.evaluation.tasks, small["tasks"]),
        episodes=min(entry.evaluation.episodes, small["episodes"]),
    )
    smaller = replace(
        entry,
        algorithm=algorithm,
        evaluation=evaluation,
        episodes=min(entry.episodes, small["episodes"]),
        iterations=small["iterations"],
    )
    return replace(row, entry=smaller)
