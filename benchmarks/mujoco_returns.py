"""Returns of PPO and TRPO in MuJoCo, beside Stable-Baselines3's PPO and sb3-contrib's TRPO at equal settings.

    python benchmarks/mujoco_returns.py --out OUT
    python benchmarks/mujoco_returns.py --out OUT --seeds 2 --steps 4096    # a small one, to try it

The settings are those of `single_task.py`. Each seed of each side is trained in a process of its own, and
then plays 20 whole episodes by sampled actions and 20 by the policy's mode. OUT/SIDE/PRESET/SEED.json holds
the returns and seconds of a run; runs that OUT holds are not trained again. OUT/returns.json has the table:
interquartile means over seeds with their 95% intervals, and the probability that a run of surefoot scores
higher.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from harness import Worker, print_table
from single_task_problem import IN_MUJOCO, Problem

from surefoot.experiment.files import write_atomically
from surefoot.statistics import difference, improvement_interval, interval

SIDES = {"surefoot": "single_task_surefoot:Scored", "peer": "single_task_sb3:Scored"}
EPISODES = 20


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    out: Path
    """The folder for all figures."""
    only: tuple[str, ...] = tuple(problem.preset for problem in IN_MUJOCO)
    """The presets that are compared, of these."""
    sides: tuple[Literal["surefoot", "peer"], ...] = ("surefoot", "peer")
    """The sides that are trained; those that OUT holds are in the table anyway."""
    seeds: int = 10
    """Number of seeds, from 0 on."""
    steps: int = 999_424
    """Number of steps of the environment for each run."""


def main(options: Options) -> None:
    """Trains what is missing, prints the table and writes it."""
    if "peer" in options.sides and find_spec("sb3_contrib") is None:
        raise SystemExit("The peer is not installed: pip install torch stable-baselines3 sb3-contrib")
    unknown = set(options.only) - {problem.preset for problem in IN_MUJOCO}
    if unknown:
        raise SystemExit(f"These are not compared: {', '.join(sorted(unknown))}.")
    table = {}
    for problem in IN_MUJOCO:
        if problem.preset not in options.only:
            continue
        for side in options.sides:
            for seed in range(options.seeds):
                train_missing(options, side, problem, seed)
        table[problem.preset] = row(options, problem)
    show(table)
    write_atomically(options.out / "returns.json", json.dumps(table, indent=2).encode() + b"\n")


def train_missing(options: Options, side: str, problem: Problem, seed: int) -> None:
    """Trains and rates one seed, unless that is done."""
    file = file_of(options.out, side, problem, seed)
    if file.exists():
        return
    with Worker(SIDES[side], problem, seed) as worker:
        seconds = worker.call("train", options.steps // problem.batch).seconds
        sampled, mode = (worker.call("score", EPISODES, kind).value for kind in (False, True))
    print(
        f"{side} {problem.preset}, seed {seed}: {sampled:.0f}, by the mode {mode:.0f}, {seconds:.0f} s",
        flush=True,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        file, json.dumps({"sampled": sampled, "mode": mode, "seconds": seconds}).encode() + b"\n"
    )


def file_of(out: Path, side: str, problem: Problem, seed: int) -> Path:
    """The file of one seed's figures."""
    return out / side / problem.preset.replace("/", "-") / f"{seed:03d}.json"


def row(options: Options, problem: Problem) -> dict[str, Any]:
    """The figures of a preset: of each side, and of the difference by sampled actions and by the mode."""
    found: dict[str, Any] = {}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for side in SIDES:
        files = [file_of(options.out, side, problem, seed) for seed in range(options.seeds)]
        runs = [json.loads(file.read_text()) for file in files if file.exists()]
        if len(runs) < 2:
            continue
        scores[side] = {kind: np.array([[run[kind]] for run in runs]) for kind in ("sampled", "mode")}
        found[side] = {
            kind: {"returns": x.ravel().tolist(), **vars(interval(x))} for kind, x in scores[side].items()
        }
        found[side]["seconds"] = float(np.median([run["seconds"] for run in runs]))
    if len(scores) == len(SIDES):
        for kind in ("sampled", "mode"):
            ours, theirs = (scores[side][kind] for side in SIDES)
            found[f"difference, {kind}"] = vars(difference(ours, theirs))
            found[f"probability of improvement, {kind}"] = vars(improvement_interval(ours, theirs))
    return found


def show(table: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    rows = [
        [
            f"{preset}, {side}",
            *(in_words(figures[side][kind]) for kind in ("sampled", "mode")),
            f"{figures[side]['seconds']:.0f}",
        ]
        for preset, figures in table.items()
        for side in SIDES
        if side in figures
    ]
    rows += [
        [
            f"{preset}, {name}",
            *(in_words(figures[f"{name}, {kind}"], digits) for kind in ("sampled", "mode")),
            "",
        ]
        for preset, figures in table.items()
        for name, digits in (("difference", 0), ("probability of improvement", 2))
        if f"{name}, mode" in figures
    ]
    columns = ("", "sampled actions", "by the mode", "seconds")
    print_table("Return after training: interquartile mean over seeds, 95% interval", columns, rows)


def in_words(one: dict[str, Any], digits: int = 0) -> str:
    """An estimate with its interval."""
    return f"{one['estimate']:.{digits}f} ({one['low']:.{digits}f} … {one['high']:.{digits}f})"


if __name__ == "__main__":
    main(tyro.cli(Options))
