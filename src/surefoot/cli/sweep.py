"""`surefoot train --sweep.NAME VALUE …`: every combination of the values of some options."""

import itertools
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from surefoot.experiment import Config
from surefoot.options import UserError

_PREFIX = "--sweep."


def take_sweeps(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The values of each option that is swept, and the other arguments. Raises `UserError` if an option has
    no values, or one of them twice."""
    sweeps: dict[str, list[str]] = {}
    others: list[str] = []
    into = others
    for argument in arguments:
        if argument.startswith(_PREFIX):
            name, _, value = argument.removeprefix(_PREFIX).partition("=")
            if name in sweeps:
                raise UserError(f"{_PREFIX}{name} is there twice. Name it once, with all its values.")
            into = sweeps.setdefault(name, value.split(",") if value else [])
        elif argument.startswith("-") and not _is_number(argument):
            into = others
            others.append(argument)
        else:
            into.append(argument)
    for name, values in sweeps.items():
        if not values:
            raise UserError(f"{_PREFIX}{name} needs values: {_PREFIX}{name} VALUE VALUE …")
        if name.partition(".")[0] in ("env", "seed", "seeds", "out"):
            raise UserError(
                f"{name.partition('.')[0]} cannot be swept: settings are compared on one environment and the "
                "same seeds. Start a training for each value."
            )
    return sweeps, others


def swept(sweeps: dict[str, list[str]], configure: Callable[[list[str]], Config]) -> dict[str, Config]:
    """The configuration of every combination, by the name of its folder. `configure` takes the options of a
    combination, which replace those of the command line. Raises `UserError` for two that are the same."""
    configs: dict[str, Config] = {}
    for values in itertools.product(*sweeps.values()):
        chosen = list(zip(sweeps, values, strict=True))
        config = configure([word for name, value in chosen for word in _as_words(name, value)])
        if config in configs.values():
            raise UserError(f"Two settings of the sweep are the same: {_words(chosen)} is there already.")
        configs[re.sub(r"[^\w.=,+-]+", "_", ",".join(map("=".join, chosen)))] = config
    return configs


def _as_words(name: str, value: str) -> list[str]:
    """An option as the command line has it; of a switch, true and false are two options."""
    if value.lower() not in ("true", "false"):
        return [f"--{name}", value]
    *parts, switch = name.split(".")
    return [f"--{'.'.join([*parts, 'no-' * (value.lower() == 'false') + switch])}"]


def _words(chosen: list[tuple[str, str]]) -> str:
    return ", ".join(f"--{name} {value}" for name, value in chosen)


def _is_number(word: str) -> bool:
    with suppress(ValueError):
        float(word)
        return True
    return False


def print_sweep(summary: dict[str, Any]) -> None:
    """Prints for each setting its interquartile mean over seeds, with its 95% interval, and how it compares
    with the best one; `summary` is what `sweep.json` holds."""
    rows = summary["settings"]
    several = all(row["ci95"] for row in rows)
    columns = ["setting", *(Column(name, justify="right") for name in ("seeds", "IQM"))]
    if several:
        columns += [Column("95% interval", justify="right"), "beside the best"]
    table = Table(*columns)
    for row in rows:
        cells = [escape(row["label"]), str(len(row["seeds"])), f"{row['iqm']:.2f}"]
        if several:
            cells += ["{:.2f}…{:.2f}".format(*row["ci95"]), row["verdict"]]
        table.add_row(*cells, style="bold" if row["label"] == summary["best"] else "")
    print(f"mean return of an episode after training, {len(rows)} settings")
    Console(highlight=False).print(table)
    print("IQM      interquartile mean over seeds" + ", with its 95% interval" * several)
    if not several:
        print("note     one seed cannot tell settings apart: add --seeds 5")
