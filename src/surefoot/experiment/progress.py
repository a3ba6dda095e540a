"""Progress of a run while it trains: a live line in a terminal, elsewhere a line every so often."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

_SMALLEST_BAR, _LARGEST_BAR = 6, 24


def headline(metrics: Mapping[str, float]) -> list[str]:
    """The few metrics to watch, of those there are, the most important first."""
    words = []
    if "return_before" in metrics:
        words.append(f"return {metrics['return_before']:.2f} → {metrics['return_after']:.2f}")
    elif "return" in metrics:
        words.append(f"return {metrics['return']:.2f}")
    if "kl" in metrics:
        words.append(f"KL {metrics['kl']:.4f}")
    if metrics.get("step_accepted", 1.0) == 0.0:
        words.append("step refused")
    return words


class TrainingProgress:
    """Shows how far training is, on standard error."""

    def __init__(self, total: int, done: int, quiet: bool = False) -> None:
        """`total` is the number of iterations, of which `done` were done in an earlier process."""
        self._console = Console(stderr=True, quiet=quiet)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._total, self._start, self._done = total, done, done
        self._began = time.monotonic()
        self._first_end: float | None = None
        self._metrics: Mapping[str, float] = {}
        self._waiting = ""
        self._spinner = Spinner("dots")
        self._live = Live(console=self._console, get_renderable=lambda: self.line(self._console.width))

    def __enter__(self) -> "TrainingProgress":
        if self._is_live and not self._console.quiet:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting = ""
        self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def waiting(self, what: str) -> None:
        """Shows what the run is doing, until it says otherwise."""
        self._waiting = what
        if not self._is_live and what.startswith("compiling"):
            self.say(f"{what} …")

    def completed(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Shows that an iteration is done, and its metrics."""
        self._done, self._metrics = iteration, metrics
        if self._first_end is None:
            self._first_end = time.monotonic()
        if not self._is_live and (iteration == self._total or iteration % max(1, self._total // 20) == 0):
            self.say(", ".join([f"iteration {iteration}/{self._total}", *headline(metrics), *self._left()]))

    def line(self, width: int) -> Text:
        """The live line, in `width` columns. A field that does not fit is left out with all that follow it;
        the bar takes the columns that remain, if they are enough."""
        spinner = str(self._spinner.render(time.monotonic())) if self._done < self._total else "✓"
        count = f" iteration {self._done}/{self._total}"
        elapsed = f"{_clock(time.monotonic() - self._began)} elapsed"
        fields = [*headline(self._metrics), *self._left(), elapsed, *filter(None, [self._waiting])]
        free = width - len(count) - 3  # for the spinner and what is before and after the bar
        while fields and len(", ".join(fields)) > free:
            fields.pop()
        shown = ", ".join(fields)
        bar = min(free - len(shown), _LARGEST_BAR)
        full = bar * self._done // self._total
        bars = [" ", ("━" * full, "bar.complete"), ("━" * (bar - full), "bar.back"), " "]
        between = bars if bar >= _SMALLEST_BAR else [", "]
        return Text.assemble(spinner, count, *between, shown, no_wrap=True, overflow="ellipsis")

    def _left(self) -> list[str]:
        """The time that remains, estimated without the first iteration, which includes compilation."""
        timed = self._done - self._start - 1
        if self._first_end is None or timed < 1:
            return []
        seconds = (time.monotonic() - self._first_end) / timed * (self._total - self._done)
        return [f"{_clock(seconds)} left"]


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
