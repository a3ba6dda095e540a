"""`surefoot lab`."""

from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surefoot.cli.showing import describe, print_rows
from surefoot.experiment.files import make_folder, write_atomically
from surefoot.options import must_be_one_of


def command_lab(experiment: tyro.conf.Positional[str] = "", /, seed: int = 0, out: Path = Path("lab")) -> int:
    """Measure what the theory says, on problems small enough for exact answers.

    Args:
        experiment: One of those that `surefoot lab` lists, or `all`.
        seed: The random seed.
        out: The folder for the figures and tables.
    """
    # Imports scipy.stats and scipy.optimize, for which no other command should wait.
    from surefoot.lab import EXPERIMENTS, run
    from surefoot.lab.base import check_seed

    if not experiment:
        listed = {name: (describe(cls),) for name, cls in EXPERIMENTS.items()}
        print_rows("experiments: surefoot lab NAME runs one, surefoot lab all runs all", listed)
        return 0
    must_be_one_of("experiment", experiment, ("all", *EXPERIMENTS), "`surefoot lab` lists them.")
    names = tuple(EXPERIMENTS) if experiment == "all" else (experiment,)
    check_seed(seed)
    make_folder(out)
    held = [_show(name, run(EXPERIMENTS[name](), seed), out) for name in names]
    return 0 if all(held) else 1


def _show(name: str, found: Any, out: Path) -> bool:
    """Prints and saves the results of an experiment, and returns whether all its claims hold."""
    table = Table(*map(escape, found.columns), title=f"{name}: {escape(found.title)}", title_justify="left")
    for row in found.rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else escape(str(cell)) for cell in row))
    console = Console(highlight=False)
    console.print(table)
    for claim in found.claims:
        mark = "[green]✓[/green]" if claim.holds else "[bold red]✗[/bold red]"
        console.print(f"{mark} {escape(claim.statement)}: {escape(claim.measured)}", soft_wrap=True)
    write_atomically(out / f"{name}.png", found.png())
    write_atomically(out / f"{name}.csv", found.csv())
    console.print(f"figure   {out / name}.png\ntable    {out / name}.csv\n", soft_wrap=True)
    return all(claim.holds for claim in found.claims)
