"""`surefoot reproduce`: a published table, and our figures beside it."""

import sys
import textwrap
from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surefoot.cli.outcome import stdout_reserved
from surefoot.cli.tables import interval, note_few_seeds, numbers, words
from surefoot.experiment.files import quoted
from surefoot.experiment.interrupts import exit_code
from surefoot.experiment.many import Place
from surefoot.reproduction import InterruptedTrainingError, reproduce
from surefoot.reproduction.summary import QUICK, label


def command_reproduce(
    name: tyro.conf.Positional[str],
    /,
    seeds: int | None = None,
    out: Path | None = None,
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    on: Place = "here",
    together: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """Run what a published table needs, and print our figures beside the published ones.

    The same command again goes on where it was: what is complete is not repeated.

    Args:
        name: One of those that `surefoot list reproduce` shows.
        seeds: Number of seeds, 5 by default, and 2 with --quick.
        out: Folder of the runs, by default reproduce/NAME. It may hold a part of them.
        quick: Make everything small, for a test of about a minute whose figures mean nothing.
        on: Place where runs are trained: here, or on a ray cluster, as surefoot train says.
        together: Train the seeds of a method side by side in one program, where environments are in JAX.
            Otherwise one run after another.
        json: Print what reproduce.json holds, and nothing else on standard output.
    """
    folder = out or Path("reproduce") / (name + "-quick" * quick)
    count = seeds if seeds is not None else 2 if quick else 5
    try:
        with stdout_reserved() if json else nullcontext():
            summary = reproduce(name, folder, seeds=count, quick=quick, on=on, together=together, quiet=False)
    except InterruptedTrainingError as interrupted:
        where = sys.stderr if json else sys.stdout
        print("Interrupted; nothing is lost. To go on:", file=where)
        options = " --quick" * quick + f" --seeds {count}" + " --together" * together
        options += f" --on {on}" * (on != "here")
        print(f"  surefoot reproduce {name}{options} --out {quoted(folder)}", file=where)
        return exit_code(interrupted.signal)
    if json:
        print(dumps(summary))
    else:
        _print(summary, folder)
    return 1 if summary["failed"] else 0


def _print(summary: dict[str, Any], out: Path) -> None:
    """Prints the table, where it is from, and how ours was made."""
    console = Console(highlight=False)

    def say(text: str, style: str = "") -> None:
        wrapped = textwrap.fill(text, console.width, subsequent_indent=" " * 10, break_on_hyphens=False)
        console.print(escape(wrapped), style=style, soft_wrap=True)

    if summary["quick"]:
        say(QUICK, "bold red")
    say(f"{summary['title']}: {summary['quantity']}", "bold")
    columns = ("ours", "95% interval", "published", "hours")
    table = Table(words("method"), *map(numbers, columns))
    for row in summary["rows"]:
        ends = interval(row["ci95"], 1)
        published, hours = (row[key] for key in ("published", "hours"))
        figures = ((row["mean"], 1), (published, 1), (hours, 2))
        ours, *others = ["–" if x is None else f"{x:.{digits}f}" for x, digits in figures]
        table.add_row(label(row), ours, ends, *others)
    console.print(table)
    say(f"published {summary['source']}")
    counts = sorted({len(row["seeds"]) for row in summary["rows"]})
    seeds = f"{' to '.join(map(str, counts))} seed{'s' * (counts != [1])}"
    say(f"ours      mean of {seeds}; hours of training by the clock, a run")
    note_few_seeds(counts[0])
    if summary["commits"]:
        say(
            f"commit    {', '.join(commit[:7] + '+' * commit.endswith('+') for commit in summary['commits'])}"
        )
    if summary["note"]:
        say(f"note      {summary['note']}")
    for path in summary["failed"]:
        say(f"failed    {path}: its loss or a parameter was not finite. It is left out.")
    print(f"results  {out / 'reproduce.json'}\npicture  {out / 'reproduce.png'}")
