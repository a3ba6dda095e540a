"""Numbers in printed tables: columns that cut nothing, and as many decimals as tell values apart."""

from collections.abc import Iterable
from math import floor, log10

from rich.table import Column

from surefoot.statistics import FEWEST_SEEDS


def note_few_seeds(seeds: int) -> None:
    """Prints a note below intervals over 2 to 4 seeds."""
    if 1 < seeds < FEWEST_SEEDS:
        print(f"note     with fewer than {FEWEST_SEEDS} seeds, 95% intervals hold the truth less often")


def numbers(name: str) -> Column:
    """A column of numbers, which are wrapped where the terminal is narrow."""
    return Column(name, justify="right", overflow="fold")


def words(name: str) -> Column:
    """A column of names."""
    return Column(name, overflow="fold")


def decimals(scales: Iterable[float]) -> int:
    """The decimals that show the smallest of these differences with two digits; 2 at least, and 8 at most."""
    smallest = min((abs(x) for x in scales if x), default=1.0)
    return min(max(2, 1 - floor(log10(smallest))), 8)


def interval(ends: Iterable[float] | None, places: int = 2) -> str:
    """The ends of an interval, or that it is unknown."""
    return "unknown" if ends is None else " to ".join(f"{end:.{places}f}" for end in ends)
