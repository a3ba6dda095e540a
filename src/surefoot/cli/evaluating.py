"""`surefoot evaluate`."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from surefoot.cli.options import run_options
from surefoot.cli.outcome import reserved_for_json, stdout_reserved
from surefoot.cli.tables import decimals, interval, numbers
from surefoot.experiment import Config, Evaluation, EvaluationResult, evaluate, load
from surefoot.experiment.evaluation import default_evaluation
from surefoot.rules import AbstractRule


@dataclass(frozen=True, kw_only=True)
class _Evaluate:
    evaluation: Annotated[Evaluation, tyro.conf.arg(name="")]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object and nothing else on standard output."""


@dataclass(frozen=True, kw_only=True)
class _EvaluateByRule(_Evaluate):
    inner: AbstractRule
    """Rule of adaptation. Several rates after --inner.lr are those of the steps in turn."""


def command_evaluate(arguments: list[str]) -> int:
    """Adapts a trained policy to held-out tasks; returns the exit code."""
    with reserved_for_json(arguments):
        path, _, options = run_options("evaluate", arguments, _default, example="navigation-2d")
        run = load(path)
    with stdout_reserved() if options.json else nullcontext():
        inner = options.inner if isinstance(options, _EvaluateByRule) else None
        result = evaluate(run.config, run.state.learner, run.iteration, options.evaluation, inner)
    if options.json:
        print(json.dumps(result.summary()))
    else:
        print_result(result)
    return 0


def _default(config: Config) -> _Evaluate:
    rule, evaluation = config.algorithm.adaptation_rule, default_evaluation(config)
    if rule is None:
        return _Evaluate(evaluation=evaluation)
    return _EvaluateByRule(evaluation=evaluation, inner=rule)


def print_result(result: EvaluationResult, mode: EvaluationResult | None = None) -> None:
    """Prints a result as a table, with that by the policy's mode beside it, if there is one."""
    rows = result.summary()["returns"]
    steps = ["step"] if len(rows) > 1 else []  # the only one is that without adaptation
    columns = (*steps, "mean return", "95% interval", *(["by the mode"] if mode else []))
    table = Table(*map(numbers, columns))
    places = decimals(row["ci95"][1] - row["ci95"][0] for row in rows if row["ci95"])
    for step, row in enumerate(rows):
        more = [f"{mode.returns[step].mean():.{places}f}"] if mode else []
        reached = f"{row['mean']:.{places}f}", interval(row["ci95"], places)
        table.add_row(*[str(step)] * len(steps), *reached, *more)
    actions = ", by the mode of the policy" if result.options.deterministic else ""
    print(f"{result.preset}, iteration {result.iteration}: {result.scope}{actions}")
    Console().print(table)
