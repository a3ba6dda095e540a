"""`surefoot report`."""

from pathlib import Path
from typing import Annotated

import tyro

from surefoot.cli.options import parse
from surefoot.experiment.files import make_folder, write_atomically
from surefoot.options import UserError
from surefoot.report.finished import FinishedRun, find_runs, group_runs
from surefoot.report.html import make_report


def command_report(arguments: list[str]) -> int:
    """Makes a page of finished runs; returns the exit code."""

    def command(
        runs: tyro.conf.Positional[tuple[Path, ...]] = (),
        /,
        out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
    ) -> int:
        """Make one HTML file of finished runs, which opens without a network.

        It has results with intervals, learning curves to zoom, adaptation by task, warnings, options,
        versions and pictures. Runs that differ in nothing but the seed are one group.

        Args:
            runs: Run folders, or folders of several seeds.
            out: The file to make; must not exist.
        """
        if not runs:
            raise UserError("Which runs? Name one folder or more: surefoot report RUN… -o report.html")
        if out.exists():
            raise UserError(f"{out} exists already, and nothing is written over. Choose another --out.")
        page = make_report(group_runs([FinishedRun.read(path) for path in find_runs(list(runs))]))
        make_folder(out.parent)
        write_atomically(out, page)
        print(f"report   {out}")
        return 0

    return parse(command, arguments, "surefoot report")
