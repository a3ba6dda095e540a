"""`surefoot trace`."""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from surefoot.cli.tables import numbers
from surefoot.experiment.files import make_folder, must_not_exist, write_atomically
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.serialise import load_config
from surefoot.experiment.timeline import IterationTimeline, traced_iterations
from surefoot.options import UserError
from surefoot.report.timeline import draw_timeline
from surefoot.samplers.timeline import WORK

_MOST = 8
"""Most iterations in one picture."""


def command_trace(
    run: tyro.conf.Positional[Path],
    /,
    iterations: tuple[int, ...] = (),
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
) -> int:
    """Draw a timeline of a run's workers and learner, and print how busy they were.

    The run was trained with `surefoot train … --sampler processes --trace`. A worker's share is that of
    the time in which it sampled; starting its process and compiling do not count.

    Args:
        run: The run folder.
        iterations: The iterations to draw; by default the first and the last.
        out: The picture, a PNG, which must not exist; by default RUN/timeline.png, where a new one
            replaces the last one.
    """
    folder = RunFolder.open(run)
    traced = traced_iterations(folder.path)
    chosen = _chosen(folder.path, traced, iterations)
    if out is not None:
        must_not_exist(out)
    picture = draw_timeline(load_config(folder.config).preset, chosen)
    path = out or folder.path / "timeline.png"
    make_folder(path.parent)
    write_atomically(path, picture)
    print_shares(traced)
    print(f"picture  {path}")
    return 0


def _chosen(run: Path, traced: list[IterationTimeline], numbers: tuple[int, ...]) -> list[IterationTimeline]:
    """The iterations with these numbers. Raises `UserError` if one is not in the timeline, or if they are too
    many for a picture."""
    if not numbers:
        return [traced[0], *traced[1:][-1:]]
    found = {it.iteration: it for it in traced}
    missing = [number for number in numbers if number not in found]
    if missing:
        raise UserError(
            f"The timeline of {run} has no iteration {missing[0]}: it has {traced[0].iteration} to "
            f"{traced[-1].iteration}."
        )
    if len(numbers) > _MOST:
        raise UserError(f"A picture has {_MOST} iterations at most; name fewer --iterations.")
    return [found[number] for number in numbers]


def print_shares(traced: list[IterationTimeline]) -> None:
    """Prints for each iteration, and for all but the first, how much of the time each was busy."""
    workers = max(it.workers for it in traced)
    heads = [*(f"worker {i}" for i in range(workers)), "compiling", "adapting", "learning"]
    table = Table(*map(numbers, ("iteration", "seconds", *heads)))
    for it in traced:
        table.add_row(str(it.iteration), f"{it.seconds:.2f}", *(f"{x:.0%}" for x in _shares(it, workers)))
    if len(traced) > 2:
        later = traced[1:]
        total = sum(it.seconds for it in later)
        weighted = [[x * it.seconds / total for x in _shares(it, workers)] for it in later]
        means = [f"{sum(column):.0%}" for column in zip(*weighted, strict=True)]
        table.add_section()
        table.add_row("later ones", f"{total:.2f}", *means)
    Console().print(table)


def _shares(it: IterationTimeline, workers: int) -> list[float]:
    """The shares of each worker, and of compilation, adaptation and the learning step in the learner."""
    missing = [0.0] * (workers - it.workers)
    of_kind = {kind: it.learner_share(kind) for kind in WORK}
    adapting = of_kind["adapt"] + of_kind["prepare"]
    return [*it.utilisation(), *missing, of_kind["compile"], adapting, of_kind["learn"]]
