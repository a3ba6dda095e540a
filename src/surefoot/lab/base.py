"""The contract of an experiment.

An experiment is one file of this room with one frozen dataclass of options that derives from
`AbstractExperiment`, and one line in `surefoot.lab` that exports it. From that line follow its name, which is
the file's (`trust_region.py` -> `trust-region`), and its place in `surefoot lab`; the first paragraph of the
class's docstring is what the list says of it.

Experiments run in double precision, through `run`, in under a minute on two busy cores. They draw everything
random from the seed.
"""

import csv
import inspect
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surefoot.options import check

Cell = str | int | float

COLOURS = ("#0b6e99", "#d1495b", "#edae49", "#66a182", "#7a5195", "#9aa5b1")
"""For lines in the order in which they are drawn; the last is a grey, for what is only compared with."""

_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True)
class Claim:
    """A sentence of the theory, and whether the measurements bear it out."""

    statement: str
    """What should hold, with its tolerance."""
    holds: bool
    measured: str
    """The figure that it was judged by."""


@dataclass(frozen=True)
class Result:
    """What an experiment found."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    """One cell for each column."""
    figure: Figure
    claims: tuple[Claim, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"The row {row} has not one cell for each of the columns {self.columns}.")

    def csv(self) -> bytes:
        """The table, with its numbers in full."""
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows([self.columns, *self.rows])
        return buffer.getvalue().encode()

    def png(self) -> bytes:
        """The figure."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):  # ticks are made as they are drawn
            self.figure.savefig(buffer, format="png", dpi=130)
        return buffer.getvalue()


class AbstractExperiment(ABC):
    """A frozen dataclass of options that measures what a piece of theory says."""

    @abstractmethod
    def measure(self, seed: int) -> Result:
        """Measures, draws and judges. Called by `run`, in double precision."""


def run(experiment: AbstractExperiment, seed: int = 0) -> Result:
    """The result of an experiment: the same for the same seed."""
    check_seed(seed)
    with jax.enable_x64(True), mpl.rc_context(_STYLE):
        return experiment.measure(seed)


def check_seed(seed: int) -> None:
    """Raises `UserError` if it is none that everything random can be drawn from."""
    check(0 <= seed < 2**32, "seed", seed, "a whole number from 0 to 4294967295")


def experiments(exports: Mapping[str, Any]) -> dict[str, type[AbstractExperiment]]:
    """The experiments among a module's names, each by the name of its file."""
    classes: Iterable[type] = (x for x in exports.values() if inspect.isclass(x))
    return {
        cls.__module__.rpartition(".")[2].replace("_", "-"): cls
        for cls in classes
        if issubclass(cls, AbstractExperiment) and not inspect.isabstract(cls)
    }


def panels(title: str, count: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels side by side. Not through pyplot, which keeps every figure it makes."""
    figure = Figure(figsize=(4.2 * count, 3.9), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
