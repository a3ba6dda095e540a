"""`surefoot train --sweep.NAME VALUE …`: combinations of the values of some options, all or random ones."""

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surefoot.cli.tables import decimals, interval, note_few_seeds, numbers, words
from surefoot.experiment import Config
from surefoot.options import UserError, check

_PREFIX = "--sweep."
_RANGE = re.compile(r"(.+)\.\.(.+)")
_WIDE = 9.99
"""Ratio of the ends of a range from which the logarithm of its values is drawn uniformly: 10, but for
rounding."""
_LONGEST_NAME = 200
"""Most bytes of a folder's name."""
Setting = tuple[str, ...]
"""A value of each option that is swept."""


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


def every_setting(sweeps: dict[str, list[str]]) -> list[Setting]:
    """Every combination of the values. Raises `UserError` for a range."""
    for name, values in sweeps.items():
        if any(map(_RANGE.fullmatch, values)):
            raise UserError(f"{_PREFIX}{name} has a range. Add --sweep-random N, the number of settings.")
    return list(itertools.product(*sweeps.values()))


def random_settings(sweeps: dict[str, list[str]], number: int, seed: int) -> list[Setting]:
    """`number` different settings: of each option one of its values, or a number from a range LOW..HIGH.
    Raises `UserError` if there are fewer."""
    check(number >= 1, "sweep-random", number, "1 or more")
    rng = np.random.default_rng(seed)
    found: dict[Setting, None] = {}
    for _ in range(100 * number):
        found[tuple(_drawn(rng, name, values) for name, values in sweeps.items())] = None
        if len(found) == number:
            return list(found)
    raise UserError(f"These values have only {len(found)} settings, fewer than --sweep-random {number}.")


def _drawn(rng: np.random.Generator, name: str, values: Sequence[str]) -> str:
    value = values[int(rng.integers(len(values)))]
    ends = _RANGE.fullmatch(value)
    if ends is None:
        return value
    words = ends.groups()
    if not all(map(_is_number, words)) or not float(words[0]) < float(words[1]) < np.inf:
        raise UserError(f"{_PREFIX}{name} {value}: a range is LOW..HIGH, two numbers, the lower one first.")
    low, high = map(float, words)
    if all(re.fullmatch(r"-?\d+", word) for word in words):
        return str(rng.integers(int(low), int(high), endpoint=True))
    if low > 0 and high / low >= _WIDE:
        return f"{np.exp(rng.uniform(np.log(low), np.log(high))):.4g}"
    return f"{rng.uniform(low, high):.4g}"


def swept(
    names: Sequence[str], settings: Sequence[Setting], configure: Callable[[list[str]], Config]
) -> dict[str, Config]:
    """The configuration of every setting of these options, by the name of its folder. `configure` takes the
    options of a setting, which replace those of the command line. Raises `UserError` for two that are the
    same."""
    configs: dict[str, Config] = {}
    for values in settings:
        chosen = list(zip(names, values, strict=True))
        config = configure([word for name, value in chosen for word in _as_words(name, value)])
        if config in configs.values():
            raise UserError(f"Two settings of the sweep are the same: {_words(chosen)} is there already.")
        configs[_folder_name(chosen)] = config
    return configs


def _folder_name(chosen: list[tuple[str, str]]) -> str:
    """The name of a setting's folder: its options and values, shortened where file systems would refuse
    it."""
    name = re.sub(r"[^\w.=,+-]+", "_", ",".join(map("=".join, chosen)))
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME // 4]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _as_words(name: str, value: str) -> list[str]:
    """An option as the command line has it: a value of several numbers is quoted in a sweep, and of a switch
    true and false are two options."""
    if value.lower() not in ("true", "false"):
        return [f"--{name}", *value.split()]
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
    several = any(row["ci95"] for row in rows)
    columns = [words("setting"), numbers("seeds"), numbers("IQM")]
    if several:
        columns += [numbers("95% interval"), words("beside the best")]
    table = Table(*columns)
    places = decimals(row["ci95"][1] - row["ci95"][0] for row in rows if row["ci95"])
    for row in rows:
        sound = len(row["seeds"])
        seeds = f"{sound} of {sound + len(row['failed'])}" if row["failed"] else str(sound)
        cells = [escape(row["label"]), seeds, f"{row['iqm']:.{places}f}"]
        if several:
            cells += [interval(row["ci95"], places), row["verdict"] or "one seed"]
        table.add_row(*cells, style="bold" if row["label"] == summary["best"] else "")
    print(f"mean return of an episode after training, {len(rows)} setting{'s' * (len(rows) != 1)}")
    Console(highlight=False).print(table)
    print(f"IQM      {summary['statistic']}" + ", with its 95% interval" * several)
    for setting in summary["failed_settings"]:
        print(f"failed   {setting}, with every seed")
    if any(row["failed"] for row in rows):
        print("note     seeds that failed have no returns: what is left may be the lucky ones")
    note_few_seeds(min((len(row["seeds"]) for row in rows if row["ci95"]), default=1))
    if all(len(row["seeds"]) + len(row["failed"]) == 1 for row in rows):
        print("note     one seed cannot tell settings apart: add --seeds 5")
