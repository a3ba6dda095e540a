"""What a run says while it works."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


def headline(metrics: Mapping[str, float]) -> str:
    """The few numbers one wants to watch, of those there are."""
    words = []
    if "return_before" in metrics:
        words.append(f"return {metrics['return_before']:.2f} → {metrics['return_after']:.2f}")
    elif "return" in metrics:
        words.append(f"return {metrics['return']:.2f}")
    if "kl" in metrics:
        words.append(f"KL {metrics['kl']:.4f}")
    if metrics.get("step_accepted", 1.0) == 0.0:
        words.append("step refused")
    return ", ".join(words)


class TrainingProgress:
    """A live line in a terminal; elsewhere a line every so often. Both go to standard error."""

    def __init__(self, total: int, done: int, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._total, self._start, self._done = total, done, done
        self._began = time.monotonic()
        self._first_end: float | None = None
        self._metrics: Mapping[str, float] = {}
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("iteration"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}  {task.fields[headline]}  [dim]{task.fields[waiting]}[/dim]"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._bar = self._live.add_task("", total=total, completed=done, left="", headline="", waiting="")

    def __enter__(self) -> "TrainingProgress":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def waiting(self, what: str) -> None:
        """What the run is doing, until it says otherwise."""
        self._live.update(self._bar, waiting=what)
        if not self._console.is_terminal and what.startswith("compiling"):
            self.say(f"{what} …")

    def completed(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """One iteration is done."""
        self._done, self._metrics = iteration, metrics
        self._first_end = self._first_end or time.monotonic()
        self._live.update(self._bar, completed=iteration, left=self._left(), headline=headline(metrics))
        if not self._console.is_terminal and (
            iteration == self._total or iteration % max(1, self._total // 20) == 0
        ):
            self.say(f"iteration {iteration}/{self._total}  {self._left()}  {headline(metrics)}")

    def _left(self) -> str:
        """From the iterations after the first, which alone compiles."""
        timed = self._done - self._start - 1
        if self._first_end is None or timed < 1:
            return ""
        seconds = (time.monotonic() - self._first_end) / timed * (self._total - self._done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"
