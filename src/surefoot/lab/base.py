"""The contract of an experiment.

An experiment is one file of this package. It defines one frozen dataclass of options that derives from
`AbstractExperiment`, and `surefoot.lab` exports that class. The experiment's name is the file's
(`trust_region.py` -> `trust-region`); the first paragraph of the class's docstring describes it in
`surefoot lab`.

Experiments run through `run`, in double precision, and take less than a minute on two busy cores. All their
random numbers come from the seed.
"""

import csv
import inspect
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax

from surefoot.lab.figures import Numbers, Panel, draw
from surefoot.options import Bound, Options, Seed, check, length_at_least

Cell = str | int | float
CLOSED = 0.95
"""Fraction of the gap to the optimal return that counts as closing it."""


@dataclass(frozen=True)
class Claim:
    """A statement of the theory, and whether the measurements confirm it."""

    statement: str
    """The statement, with its tolerance."""
    holds: bool
    measured: str
    """The numbers that decide whether it holds."""


def close(statement: str, error: float, tolerance: float) -> Claim:
    """The claim that `error` is at most `tolerance`."""
    return Claim(statement, bool(error <= tolerance), f"off by {error:.1e}")


def converges(statement: str, errors: Numbers, tolerance: float) -> Claim:
    """The claim that the first of the errors is at most `tolerance`, and less than the second."""
    holds = errors[0] <= tolerance and errors[0] < errors[1]
    return Claim(statement, bool(holds), f"off by {errors[0]:.2e}, and by {errors[1]:.2e} at the next value")


def ascends(values: Sequence[int | float]) -> bool:
    """Whether there are two values or more, each of them greater than the one before."""
    return len(values) >= 2 and all(before < after for before, after in pairwise(values))


Ascending = Bound(ascends, "two or more, ascending", whole=True)
OneRate = length_at_least(1, "at least one rate")
ThreeOrMore = length_at_least(3, "three or more")


@dataclass(frozen=True)
class Result:
    """The title, table, figure and claims that an experiment returns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """One cell for each column."""
    panels: Sequence[Panel]
    """The panels of the figure, one or more."""
    claims: Sequence[Claim]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"The row {row} has not one cell for each of the columns {self.columns}.")

    def csv(self) -> bytes:
        """The table as a CSV file, with all digits of its numbers."""
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows([self.columns, *self.rows])
        return buffer.getvalue().encode()

    def png(self) -> bytes:
        """The figure as a PNG file."""
        return draw(self.title, self.panels)


class AbstractExperiment(Options, ABC):
    """A frozen dataclass of options that measures what a part of the theory says."""

    @abstractmethod
    def measure(self, seed: int) -> Result:
        """Measure, and check the claims. Called by `run`, in double precision."""


def run(experiment: AbstractExperiment, seed: int = 0) -> Result:
    """The result of an experiment: the same for the same seed.

    Raises `UserError` if the seed is out of its range.
    """
    check_seed(seed)
    with jax.enable_x64(True):
        return experiment.measure(seed)


def check_seed(seed: int) -> None:
    """Raise a `UserError` if the seed is not a whole number from 0 to 2³² − 1."""
    check(Seed.holds(seed), "seed", seed, Seed.words)


def experiments(exports: Mapping[str, Any]) -> dict[str, type[AbstractExperiment]]:
    """The experiments among a module's names, each by the name of its file."""
    return {
        cls.__module__.rpartition(".")[2].replace("_", "-"): cls
        for cls in exports.values()
        if inspect.isclass(cls) and issubclass(cls, AbstractExperiment) and not inspect.isabstract(cls)
    }
