"""`surefoot report`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from surefoot.experiment import load
from surefoot.experiment.files import make_folder, must_not_exist, write_atomically
from surefoot.options import UserError
from surefoot.report.finished import FinishedRun, Group, find_runs, group_runs
from surefoot.report.goals import SIDE, GoalField, has_goal_field, make_goal_field
from surefoot.report.html import make_report


def command_report(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    /,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
) -> int:
    """Make one HTML file of finished runs, which opens without a network.

    It has results with intervals, learning curves to zoom, adaptation by task, warnings, options,
    versions and pictures. Runs that differ in nothing but the seed are one group. For 2-D navigation the
    reader chooses a goal and sees the paths of the first seed of each group as it adapts.

    Args:
        runs: Run folders, or folders of several seeds.
        out: The file to make; must not exist.
    """
    if not runs:
        raise UserError("Which runs? Name one folder or more: surefoot report RUN… -o report.html")
    must_not_exist(out)
    groups = group_runs([FinishedRun.read(path) for path in find_runs(list(runs))])
    page = make_report(groups, _goal_fields(groups))
    make_folder(out.parent)
    write_atomically(out, page)
    print(f"report   {out}")
    return 0


def _goal_fields(groups: Sequence[Group]) -> list[GoalField]:
    """The field of goals of the first run of each group, where its environment has one. A run without a
    checkpoint has none, which is said."""
    fields = []
    for group in groups:
        run = group.runs[0]
        if not has_goal_field(run.config):
            continue
        try:
            loaded = load(run.path)
        except UserError as error:
            print(f"No goals to choose from: {error}", file=sys.stderr)
            continue
        print(f"adapting to {SIDE**2} goals …", file=sys.stderr)
        fields.append(make_goal_field(loaded, f"{group.label}, seed {run.seed}"))
    return fields
