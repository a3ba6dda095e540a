"""The table of what several seeds come to."""

from typing import Any

from rich.console import Console
from rich.table import Column, Table


def print_seeds(summary: dict[str, Any]) -> None:
    """Prints the returns of each seed, before adaptation and after each step of it, and below them the
    interquartile mean with its 95% interval; `summary` is what `seeds.json` holds."""
    rows = summary["returns"]
    later = [f"{row['step']} step{'s' * (row['step'] > 1)}" for row in rows[1:]]
    names = ["before adaptation", *later] if later else ["mean return"]
    table = Table("seed", *(Column(name, justify="right") for name in names))
    for i, seed in enumerate(summary["seeds"]):
        table.add_row(str(seed), *(f"{row['seeds'][i]:.2f}" for row in rows))
    table.add_section()
    table.add_row("IQM", *(f"{row['iqm']:.2f}" for row in rows))
    if rows[0]["ci95"]:
        for name, end in (("95% from", 0), ("to", 1)):
            table.add_row(name, *(f"{row['ci95'][end]:.2f}" for row in rows))
    print(f"mean return of an episode after training, {len(summary['seeds'])} seeds")
    if summary["failed"]:
        print(f"without seeds that failed: {', '.join(map(str, summary['failed']))}")
    Console().print(table)
    print("IQM      interquartile mean over seeds" + ", with its 95% interval" * bool(rows[0]["ci95"]))
