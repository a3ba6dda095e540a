"""`surefoot evaluate`."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from surefoot.cli.options import swap_parts
from surefoot.experiment import Evaluation, evaluate, load, preset
from surefoot.experiment.evaluation import EvaluationResult, default_steps, inner_rule
from surefoot.options import UserError
from surefoot.rules import AbstractRule


@dataclass(frozen=True)
class _Evaluate:
    run: tyro.conf.Positional[Path]
    """A run folder, or a checkpoint in one."""
    evaluation: Annotated[Evaluation, tyro.conf.arg(name="")]
    inner: AbstractRule
    """How the policy adapts; several rates after --inner.lr are those of the steps in turn."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object and nothing else on standard output."""


def command_evaluate(arguments: list[str]) -> int:
    """Adapts a trained policy to held-out tasks; returns the exit code."""
    asks_for_help = bool({"-h", "--help"} & set(arguments))
    words = [a for a in arguments if not a.startswith("-")]
    path = next((word for word in words if Path(word).exists()), words[0] if words else None)
    if path is None and not asks_for_help:
        raise UserError("Evaluate what? Name a run folder.")
    found = load(path) if path and not asks_for_help else None
    config = found.config if found else preset("navigation-2d")
    default = _Evaluate(
        run=Path(path or "RUN"),
        evaluation=replace(config.evaluation, steps=default_steps(config)),
        inner=inner_rule(config),
    )
    default, rest = swap_parts(default, arguments, {"inner": "rules"})
    options = tyro.cli(_Evaluate, default=default, args=rest, prog="surefoot evaluate")
    assert found is not None
    result = evaluate(config, found.state.learner, found.iteration, options.evaluation, options.inner)
    if options.json:
        print(json.dumps(result.summary()))
    else:
        print_result(result)
    return 0


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
