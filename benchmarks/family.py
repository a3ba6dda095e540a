"""Every algorithm on one task: returns over ten seeds, seconds, and the sensitivity of each to its main
option.

    python benchmarks/family.py --out OUT              # Pendulum, some 500,000 steps
    python benchmarks/family.py --out OUT --env breakout-minatar --flat --steps 499712
    python benchmarks/family.py --out OUT --seeds 2 --others 2 --steps 8192     # a small one, to try it

OUT/PRESET holds the runs, OUT/PRESET-sweep those at multiples of the preset's main option. OUT/comparison.png
has the learning curves, OUT/sensitivity.png the returns at the multiples, OUT/family.json all figures. Runs
that OUT holds already are not trained again; those that were interrupted go on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tyro
from matplotlib.axes import Axes

from surefoot.experiment import Config, Run, preset
from surefoot.experiment.files import write_atomically
from surefoot.experiment.folder import run_folders
from surefoot.experiment.many import go_on_many, seeds_of
from surefoot.experiment.presets import with_options
from surefoot.experiment.serialise import flat_options
from surefoot.report import finish_seeds, finish_sweep
from surefoot.report.comparing import draw_comparison, looks
from surefoot.report.comparison import Comparison
from surefoot.report.finished import FinishedRun, group_runs, shown_value
from surefoot.report.learning import picture

MAIN = {
    "ppo": "rule.lr",
    "ppo-penalty": "rule.lr",
    "trpo": "rule.max-kl",
    "trpo-penalty": "rule.target-kl",
    "npg": "rule.max-kl",
    "a2c": "rule.lr",
}
"""The main option of each algorithm."""
MULTIPLES = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    out: Path
    """The folder for all runs and pictures."""
    env: str = "pendulum"
    steps: int = 499_712
    """Number of steps of the environment for each run."""
    seeds: int = 10
    """Number of seeds of each algorithm, from 0 on."""
    others: int = 3
    """Number of seeds of each value of the main option, from 100 on."""
    flat: bool = False
    """Take pictures as vectors, without convolutions."""


def main(options: Options) -> None:
    """Trains what is missing, leaves the pictures, and prints two tables."""
    found, sensitivity = [], {}
    for name, option in MAIN.items():
        config = configuration(options, name)
        done(seeds_of(config, options.seeds), options.out / name, finish_seeds)
        found += [FinishedRun.read(path) for path in run_folders(options.out / name)]
        sweep = multiples(replace(config, seed=100), option, options.others)
        sensitivity[name] = done(sweep, options.out / f"{name}-sweep", finish_sweep)["settings"]
    comparison = Comparison(group_runs(found))
    write_atomically(options.out / "comparison.png", draw_comparison(comparison)["png"])
    write_atomically(options.out / "sensitivity.png", draw_sensitivity(sensitivity))
    document = {"comparison": comparison.summary(), "sensitivity": sensitivity}
    write_atomically(options.out / "family.json", json.dumps(document, indent=2).encode() + b"\n")
    print_tables(comparison, sensitivity)


def configuration(options: Options, name: str) -> Config:
    """The preset of an algorithm for this number of steps, with learning rates that reach their end there."""
    config = preset(f"{options.env}/{name}")
    config = replace(config, iterations=options.steps // (config.streams * config.steps))
    known, changed = flat_options(config), {}
    if known.get("rule.lr-end") is not None:
        changed["rule.decay-steps"] = config.iterations
    if options.flat:
        changed |= {encoder: "flat" for encoder in known if encoder.endswith(".encoder")}
    return with_options(config, changed)


def done(configs: Mapping[str, Config], out: Path, finish: Callable[[list[Run], Path], Any]) -> Any:
    """The summary of runs of these configurations, trained and evaluated as far as they are not yet."""
    runs = trained(configs, out)
    return finish([run for run in runs if run.iteration == run.config.iterations], out)


def trained(configs: Mapping[str, Config], out: Path) -> list[Run]:
    """The runs of these configurations, trained as far as they are not yet. An interruption ends the
    program, which can be gone on with."""
    outcome = go_on_many(configs, out, quiet=False, together=True)
    if outcome.interrupted:
        raise SystemExit(128 + outcome.interrupted)
    return outcome.runs


def multiples(
    config: Config, option: str, seeds: int, factors: Sequence[float] = MULTIPLES
) -> dict[str, Config]:
    """The configurations at multiples of an option's value, or of each of its values."""
    usual = flat_options(config)[option]
    several = isinstance(usual, list)
    found = {}
    for x in factors:
        value = [x * one for one in usual] if several else x * usual
        setting = with_options(config, {option: tuple(value) if several else value})
        name = f"{option}={shown_value(value)}"
        found |= {f"{name}/{seed}": one for seed, one in seeds_of(setting, seeds).items()}
    return found


def draw_sensitivity(tables: Mapping[str, list[dict[str, Any]]]) -> bytes:
    """A PNG: for each algorithm the interquartile mean over seeds, with every seed, at each multiple."""

    def draw(axes: Axes) -> None:
        for (name, rows), look in zip(tables.items(), looks(len(tables)), strict=True):
            for x, row in zip(MULTIPLES, rows, strict=True):
                axes.plot([x] * len(row["returns"]), row["returns"], ".", color=look["color"], alpha=0.4)
            axes.plot(MULTIPLES, [row["iqm"] for row in rows], label=f"{name} ({MAIN[name]})", **look)
        axes.set(xscale="log", xlabel="multiple of the preset's value", ylabel="mean return after training")
        axes.legend(frameon=False)

    return picture("Sensitivity to the main option: seeds, and their interquartile mean", draw, panels=1)


def print_tables(comparison: Comparison, sensitivity: Mapping[str, list[dict[str, Any]]]) -> None:
    """Prints returns and seconds, and the returns at the multiples."""
    for name, group in zip(MAIN, comparison.groups, strict=True):
        reached, hours = comparison.reached(group), median(run.hours for run in group.runs)
        print(
            f"{name:13}{reached.estimate:9.1f} ({reached.low:.1f} … {reached.high:.1f})"
            f"{3600 * hours / len(group.runs):7.1f} s a seed, side by side"
        )
    print("multiple".ljust(13) + "".join(f"{x:9}" for x in MULTIPLES))
    for name, rows in sensitivity.items():
        print(name.ljust(13) + "".join(f"{np.round(row['iqm'], 1):9}" for row in rows), MAIN[name])


if __name__ == "__main__":
    main(tyro.cli(Options))
