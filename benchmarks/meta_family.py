"""Every meta-method on one family of tasks, with equal steps of the environment and equally tuned: returns
on held-out tasks over seeds and steps of adaptation.

    python benchmarks/meta_family.py --out OUT                        # bandits
    python benchmarks/meta_family.py --out OUT --env tabular-mdp
    python benchmarks/meta_family.py --out OUT --env half-cheetah-dir --batch 20 10

Each method's main option is tried at multiples of the preset's value on seeds of its own; the value with the
best return after adaptation is taken for the seeds of the table. Methods are compared with the first one by
pairs of seeds and tasks. OUT/METHOD/tuning holds the runs of the first kind, OUT/METHOD/runs those of the
second, OUT/table.json all figures, OUT/adaptation.png the picture. What OUT holds already is not trained
again.

RL² is trained in trials of as many episodes as the others draw of a task. Its figures are of the same
episodes: the first ones for 0 steps of adaptation, and those after them for 1.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from family import multiples, trained
from matplotlib.axes import Axes

from surefoot.algorithms import RL2
from surefoot.envs import Trial
from surefoot.experiment import PRESETS, Config, preset
from surefoot.experiment.files import write_atomically
from surefoot.experiment.many import seeds_of
from surefoot.policies import AttentionActorCritic
from surefoot.report.comparing import looks
from surefoot.report.finished import FinishedRun
from surefoot.report.learning import picture
from surefoot.report.sweep import evaluate_missing
from surefoot.rules import PPOClip
from surefoot.samplers.host_runner import disable_async_dispatch
from surefoot.statistics import Interval, difference, interval

# As every command of surefoot does, before JAX computes.
disable_async_dispatch()

GRADIENT = (
    "maml-trpo",
    "fomaml-trpo",
    "promp",
    "e-maml-trpo",
    "anil-trpo",
    "meta-sgd-trpo",
    "cavia-trpo",
    "reptile",
)
MEMORY = ("rl2-ppo", "rl2-ppo-attention")
MULTIPLES = (0.3, 1.0, 3.0)
_TUNING_SEED = 100
_SCHEME = "seeds-and-tasks"


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    out: Path
    """The folder for all runs."""
    env: str = "bandit"
    """The family of tasks; there must be presets ENV/maml-trpo and others."""
    methods: tuple[str, ...] = (*GRADIENT, *MEMORY)
    """The methods; those that the family has no preset of are left out."""
    steps: int = 1_600_000
    """Number of steps of the environment for each run, or a little fewer."""
    seeds: int = 5
    """Number of seeds of the table, from 0 on."""
    tuning_seeds: int = 2
    """Number of seeds that each value of the main option is tried on, from 100 on."""
    tasks: int = 200
    """Number of held-out tasks."""
    batch: tuple[int, int] | None = None
    """Number of tasks, and of episodes of each, in a batch of training; the presets' own by default."""


def main(options: Options) -> None:
    """Trains what is missing, prints the table and leaves its picture."""
    rows: dict[str, dict[str, Any]] = {}
    first: np.ndarray | None = None
    for method in methods_of(options):
        config = config_of(options, method)
        option = "rule.lr" if method in MEMORY else "inner.lr"
        tuning = multiples(replace(config, seed=_TUNING_SEED), option, options.tuning_seeds, MULTIPLES)
        tried = runs_of(tuning, options.out / method / "tuning")
        scores = [returns_after(run, options)[1].mean() for run in tried.values()]
        means = np.mean(np.reshape(scores, (len(MULTIPLES), options.tuning_seeds)), axis=1)
        best = list(tuning.values())[int(np.argmax(means)) * options.tuning_seeds]
        runs = runs_of(seeds_of(replace(best, seed=0), options.seeds), options.out / method / "runs")
        returns = np.stack([returns_after(run, options) for run in runs.values()])
        first = returns[:, 1] if first is None else first
        rows[method] = {
            "option": option,
            "tried": dict(zip(map(str, MULTIPLES), means.tolist(), strict=True)),
            "environment_steps": max(run.steps or 0.0 for run in runs.values()),
            "hours": sum(run.hours for run in runs.values()),
            "returns": [vars(interval(returns[:, k], scheme=_SCHEME)) for k in range(returns.shape[1])],
            "beside_the_first": vars(difference(returns[:, 1], first, paired=True, scheme=_SCHEME)),
        }
        print_row(method, rows[method])
        write_atomically(options.out / "table.json", json.dumps(rows, indent=2).encode() + b"\n")
    write_atomically(options.out / "adaptation.png", draw(options.env, rows))


def methods_of(options: Options) -> list[str]:
    """The methods that are compared."""
    return [name for name in options.methods if name in MEMORY or f"{options.env}/{name}" in PRESETS]


def config_of(options: Options, method: str) -> Config:
    """The configuration of a method, with the options' number of steps of the environment."""
    base = sized(options, "maml-trpo")
    maml: Any = base.algorithm

    def iterations(phases: int) -> int:
        return options.steps // (phases * maml.tasks * base.episodes * base.env.horizon)

    if method in GRADIENT:
        config = sized(options, method)
        algorithm: Any = config.algorithm
        evaluation = replace(config.evaluation, tasks=options.tasks, episodes=config.episodes, steps=3)
        config = replace(config, evaluation=evaluation, iterations=iterations(algorithm.inner_steps + 1))
    else:
        config, phases = preset("bandit/rl2-ppo"), maml.inner_steps + 1
        count, trial = iterations(phases), phases * base.episodes
        rule = PPOClip(lr=1e-3, lr_end=0.0, decay_steps=count, minibatches=8)
        config = replace(
            config,
            env=Trial(base.env, trial),
            policy=AttentionActorCritic() if method.endswith("attention") else config.policy,
            algorithm=RL2(rule, entropy_bonus=0.005, tasks=maml.tasks),
            evaluation=replace(config.evaluation, tasks=options.tasks, episodes=5, steps=trial - 1),
            iterations=count,
        )
    return replace(config, checkpoint_every=config.iterations, preset=f"{options.env}/{method}")


def sized(options: Options, method: str) -> Config:
    """The preset of a method, with the options' size of a batch."""
    config = preset(f"{options.env}/{method}")
    if options.batch is None:
        return config
    tasks, episodes = options.batch
    algorithm: Any = config.algorithm
    return replace(config, algorithm=replace(algorithm, tasks=tasks), episodes=episodes)


def runs_of(configs: Mapping[str, Config], out: Path) -> dict[str, FinishedRun]:
    """The runs of these configurations, trained and evaluated as far as they are not yet."""
    evaluate_missing(trained(configs, out))
    return {name: FinishedRun.read(out / name) for name in configs}


def returns_after(run: FinishedRun, options: Options) -> np.ndarray:
    """The mean return of each task, after each step of adaptation: axes `[step task]`."""
    if run.config.env.trial_episodes is None:
        return run.returns
    size = sized(options, "maml-trpo").episodes
    return run.returns.reshape(-1, size, run.returns.shape[1]).mean(axis=1)


def print_row(method: str, row: dict[str, Any]) -> None:
    """Prints a method's row of the table."""
    tried = " ".join(f"{value:.2f}" for value in row["tried"].values())
    returns = "  ".join(str(Interval(**one)) for one in row["returns"])
    print(f"{method:18}{returns}  [{row['option']} × {', '.join(row['tried'])}: {tried}]")
    print(f"{'':18}beside the first, after 1 step: {Interval(**row['beside_the_first'])}", flush=True)


def draw(env: str, rows: Mapping[str, dict[str, Any]]) -> bytes:
    """A PNG: the returns of each method over the steps of adaptation, with their intervals."""

    def panel(axes: Axes) -> None:
        for i, ((method, row), look) in enumerate(zip(rows.items(), looks(len(rows)), strict=True)):
            middle, low, high = (
                [one[part] for one in row["returns"]] for part in ("estimate", "low", "high")
            )
            x = np.arange(len(middle)) + 0.03 * (i - len(rows) / 2)
            reach = np.abs(np.array([low, high]) - middle)
            axes.errorbar(x, middle, yerr=reach, marker="o", markersize=4, capsize=3, label=method, **look)
        axes.set(xlabel="steps of adaptation", xticks=range(4), ylabel="mean return of an episode")
        axes.legend(frameon=False, fontsize=8, ncols=2)

    return picture(f"{env}: interquartile mean over seeds and held-out tasks, 95% interval", panel, panels=1)


if __name__ == "__main__":
    main(tyro.cli(Options))
