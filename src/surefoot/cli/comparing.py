"""`surefoot compare`."""

import csv as tables
import io
from datetime import datetime
from json import dumps
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surefoot.cli.tables import decimals, interval, numbers, words
from surefoot.experiment.files import make_folder, must_not_exist, write_atomically
from surefoot.options import UserError
from surefoot.report.comparing import draw_comparison
from surefoot.report.comparison import Comparison, differences_in_words
from surefoot.report.finished import FinishedRun, find_runs, group_runs


def command_compare(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    /,
    against: Path | None = None,
    step: int | None = None,
    out: Path | None = None,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
    csv: tyro.conf.FlagCreatePairsOff[bool] = False,
    seed: int = 0,
) -> int:
    """Compare runs of several seeds each: what they reach, by how much they differ, and whether the seeds
    can tell.

    Runs that differ in nothing but the seed are one group. A folder that `surefoot train --seeds` made
    stands for its runs.

    Args:
        runs: Run folders, or folders of several seeds.
        against: The run or folder that the others are compared with; by default the first.
        step: Number of steps of adaptation after which runs are compared; by default the last evaluated.
        out: The folder to make for comparison.png and comparison.svg; by default one with today's date
            under comparisons/, and no pictures with --json or --csv.
        json: Print one JSON object and nothing else on standard output.
        csv: Print a table of comma-separated values and nothing else on standard output.
        seed: The random seed of the bootstrap.
    """
    if json and csv:
        raise UserError("Standard output holds one of --json and --csv; ask for one of them.")
    if not runs and against is None:
        raise UserError("Which runs? Name at least two folders: surefoot compare RUN… [--against BASELINE]")
    folder = out
    if folder is None and not (json or csv):
        folder = Path("comparisons") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    if folder is not None:
        must_not_exist(folder)
    named = runs if against is None else [against, *runs]
    groups = group_runs([FinishedRun.read(path) for path in find_runs(named)])
    comparison = Comparison(groups, step=step, seed=seed)
    pictures = [] if folder is None else _leave_pictures(comparison, folder)
    if json:
        print(dumps({**comparison.summary(), "pictures": [str(path) for path in pictures]}))
    elif csv:
        print(_as_csv(comparison), end="")
    else:
        _print(comparison)
        for path in pictures:
            print(f"picture  {path}")
    return 0


def _leave_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    pictures = draw_comparison(comparison)
    make_folder(folder)
    paths = []
    for kind, content in pictures.items():
        paths.append(folder / f"comparison.{kind}")
        write_atomically(paths[-1], content)
    return paths


def _print(comparison: Comparison) -> None:
    """Prints what differs, the tables, and what must be known of them."""
    console = Console(highlight=False)
    summary = comparison.summary()
    print(
        f"score    {summary['score']}, {summary['statistic']} over seeds"
        + " and tasks" * comparison.same_tasks
    )
    differences = differences_in_words(comparison.groups)
    if differences:
        print("differs  " + "\n         ".join(differences))
    elif len(comparison.groups) == 1:
        print("differs  nothing but the seeds: there is one group of runs")
    else:
        print("differs  no option: the groups are runs of other folders with the same seeds")
    table = Table(words("runs"), *map(numbers, ("seeds", "IQM", "95% interval", "steps", "hours")))
    places = decimals(row["ci95"][1] - row["ci95"][0] for row in summary["groups"])
    for row in summary["groups"]:
        table.add_row(
            escape(row["label"]),
            str(len(row["seeds"])),
            f"{row['iqm']:.{places}f}",
            interval(row["ci95"], places),
            "unknown" if row["steps"] is None else _short(row["steps"]),
            f"{row['hours']:.3g}",
        )
    console.print(table)
    others = [row for row in summary["groups"] if "against_baseline" in row]
    if others:
        columns = (words("runs"), numbers("difference (95%)"), numbers("P(higher) (95%)"), words("verdict"))
        table = Table(*columns, title=f"against {escape(summary['baseline'])}", title_justify="left")
        for row in others:
            against = row["against_baseline"]
            apart, improves = against["difference"], against["probability_of_improvement"]
            table.add_row(
                escape(row["label"]),
                f"{apart['estimate']:+.{places}f}{'*' * against['paired_by_seed']} "
                f"({interval(apart['ci95'], places)})",
                f"{improves['estimate']:.2f} ({interval(improves['ci95'])})",
                against["verdict"],
            )
        console.print(table)
        if any(row["against_baseline"]["paired_by_seed"] for row in others):
            print("* of pairs of runs with the same seed")
    for note in summary["notes"]:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)


def _short(steps: float) -> str:
    """A number of steps with a unit, as 98.3k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if steps >= 0.9995 * size:  # which has the next unit once it is rounded
            return f"{steps / size:.3g}{unit}"
    return f"{steps:.0f}"


def _as_csv(comparison: Comparison) -> str:
    """A row for each group, its options included."""
    rows = []
    for found in comparison.summary()["groups"]:
        against = found.get("against_baseline")
        row = {
            "group": found["label"],
            "seeds": len(found["seeds"]),
            "iqm": found["iqm"],
            "low": found["ci95"][0],
            "high": found["ci95"][1],
            "steps": found["steps"],
            "hours": found["hours"],
        }
        for name, key in (("difference", "difference"), ("improvement", "probability_of_improvement")):
            one = against[key] if against else {"estimate": None, "ci95": [None, None]}
            row |= {name: one["estimate"], f"{name}_low": one["ci95"][0], f"{name}_high": one["ci95"][1]}
        row["verdict"] = against["verdict"] if against else "baseline"
        rows.append(row | {f"--{name}": value for name, value in found["options"].items()})
    file = io.StringIO()
    writer = tables.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
