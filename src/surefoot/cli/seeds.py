"""The table of what several seeds come to."""

from typing import Any

from rich.console import Console
from rich.table import Table

from surefoot.cli.tables import decimals, interval, note_few_seeds, numbers

_MOST_COLUMNS = 5
"""Most steps of adaptation that are columns of the table."""


def print_seeds(summary: dict[str, Any]) -> None:
    """Prints the returns of each seed, before adaptation and after each step of it, and below them the
    interquartile mean with its 95% interval; `summary` is what `seeds.json` holds."""
    rows = summary["returns"]
    places = decimals(max(row["seeds"]) - min(row["seeds"]) for row in rows)
    table = (_by_seed if len(rows) <= _MOST_COLUMNS else _by_step)(summary, places)
    print(f"mean return of an episode after training, {len(summary['seeds'])} seeds")
    if summary["failed"]:
        print(f"without seeds that failed: {', '.join(map(str, summary['failed']))}")
    Console().print(table)
    print("IQM      interquartile mean over seeds" + ", with its 95% interval" * bool(rows[0]["ci95"]))
    note_few_seeds(len(summary["seeds"]))


def _by_seed(summary: dict[str, Any], places: int) -> Table:
    """A row for each seed, and below them those of the interquartile mean."""
    rows = summary["returns"]
    later = [f"{row['step']} step{'s' * (row['step'] > 1)}" for row in rows[1:]]
    table = Table("seed", *map(numbers, ["before adaptation", *later] if later else ["mean return"]))
    for i, seed in enumerate(summary["seeds"]):
        table.add_row(str(seed), *(f"{row['seeds'][i]:.{places}f}" for row in rows))
    table.add_section()
    table.add_row("IQM", *(f"{row['iqm']:.{places}f}" for row in rows))
    if rows[0]["ci95"]:
        for name, end in (("95% from", 0), ("to", 1)):
            table.add_row(name, *(f"{row['ci95'][end]:.{places}f}" for row in rows))
    return table


def _by_step(summary: dict[str, Any], places: int) -> Table:
    """A row for each step of adaptation; the seeds' own returns are in seeds.json."""
    table = Table(*map(numbers, ("steps", "lowest seed", "highest seed", "IQM", "95% interval")))
    for row in summary["returns"]:
        values = [f"{x:.{places}f}" for x in (min(row["seeds"]), max(row["seeds"]), row["iqm"])]
        table.add_row(str(row["step"]), *values, interval(row["ci95"], places))
    return table
