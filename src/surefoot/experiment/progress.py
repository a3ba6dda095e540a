"""Progress of a run while it trains: a live line in a terminal, elsewhere a line every so often."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from surefoot.experiment.callbacks import Event, headline

_SMALLEST_BAR, _LARGEST_BAR = 6, 24
_SILENCE = 60.0
"""Most seconds between two lines, where there is no live one; an iteration may take longer."""


class TrainingProgress:
    """A callback that shows on standard error how far training is, from the moment it is made."""

    def __init__(self, total: int, done: int, waiting: str = "compiling the iteration") -> None:
        """`total` is the number of iterations, of which `done` were done in an earlier process; `waiting`
        says what happens until the first one ends."""
        self._console = Console(stderr=True)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._total, self._start, self._done = total, done, done
        self._began = time.monotonic()
        self._first_end: float | None = None
        self._said = self._began
        """When the last line was printed."""
        self._metrics: Mapping[str, float] = {}
        self._waiting = waiting
        self._spinner = Spinner("dots")
        self._live = Live(console=self._console, get_renderable=lambda: self.line(self._console.width))
        if self._is_live:
            self._live.start(refresh=True)
        else:
            self._say(f"{waiting} …")

    def __call__(self, event: Event) -> None:
        """Shows that an iteration is done, and its metrics."""
        self._done, self._metrics, self._waiting = event.iteration, event.metrics, "sampling and learning"
        is_first, now = self._first_end is None, time.monotonic()
        if self._first_end is None:
            self._first_end = now
        for name in event.failed:
            self._say(f"{name} stops: its loss or a parameter is not finite.")
        is_round = self._done == self._total or self._done % max(1, self._total // 20) == 0
        if not self._is_live and (is_round or is_first or now - self._said > _SILENCE):
            words = [f"iteration {self._done}/{self._total}", *headline(self._metrics), *self._left()]
            self._say(", ".join(words))

    def close(self) -> None:
        """Ends the live line, which stays as it is."""
        self._waiting = ""
        self._live.stop()

    def _say(self, text: str) -> None:
        """Prints a line that stays."""
        self._said = time.monotonic()
        self._console.print(text, highlight=False, soft_wrap=True)

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
        full = bar * self._done // max(1, self._total)
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
