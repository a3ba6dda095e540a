"""`surefoot evaluate`."""

import json
from dataclasses import dataclass, replace
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from surefoot.cli.options import run_options
from surefoot.experiment import Config, Evaluation, evaluate, load
from surefoot.experiment.evaluation import EvaluationResult, default_steps, inner_rule
from surefoot.rules import AbstractRule


@dataclass(frozen=True)
class _Evaluate:
    evaluation: Annotated[Evaluation, tyro.conf.arg(name="")]
    inner: AbstractRule
    """How the policy adapts; several rates after --inner.lr are those of the steps in turn."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object and nothing else on standard output."""


def command_evaluate(arguments: list[str]) -> int:
    """Adapts a trained policy to held-out tasks; returns the exit code."""
    path, _, options = run_options("evaluate", arguments, _default, example="navigation-2d")
    run = load(path)
    result = evaluate(run.config, run.state.learner, run.iteration, options.evaluation, options.inner)
    if options.json:
        print(json.dumps(result.summary()))
    else:
        print_result(result)
    return 0


def _default(config: Config) -> _Evaluate:
    judged = replace(config.evaluation, steps=default_steps(config))
    return _Evaluate(evaluation=judged, inner=inner_rule(config))


def print_result(result: EvaluationResult) -> None:
    """As a table."""
    options = result.options
    judged = f"{options.tasks} held-out tasks, {options.episodes} episodes a step"
    if options.tasks == 1:
        judged = f"{options.episodes} episodes"
    table = Table("step", "mean return", "95% interval")
    for row in result.summary()["returns"]:
        interval = f"{row['ci95'][0]:.2f} … {row['ci95'][1]:.2f}" if row["ci95"] else "unknown"
        table.add_row(str(row["step"]), f"{row['mean']:.2f}", interval)
    print(f"{result.preset}, iteration {result.iteration}: {judged}")
    Console().print(table)
