"""Callbacks: what training calls after each iteration."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from surefoot.options import check


@dataclass(frozen=True)
class Event:
    """The argument of callbacks, after each iteration."""

    iteration: int
    """The number of the iteration that was completed, from 1 on."""
    total: int
    """The iteration at which training ends."""
    metrics: Mapping[str, float]
    """The metrics of the iteration, and its seconds."""
    get_state: Callable[[], Any] = field(repr=False)
    finite: bool = True
    """Whether the loss and all that was learned is finite. If not, the state is the one before, and training
    ends."""
    failed: tuple[str, ...] = ()
    """Names of the runs that ended in this iteration because something was not finite, where many are trained
    together and the metrics are their means."""

    @property
    def state(self) -> Any:
        """The `TrainingState` after the iteration."""
        return self.get_state()

    def row(self) -> dict[str, Any]:
        """The metrics with the iteration's number."""
        return {"iteration": self.iteration, **self.metrics}

    def __str__(self) -> str:
        return f"iteration {self.iteration}/{self.total}  {', '.join(headline(self.metrics))}"


Callback = Callable[[Event], Any]
"""Called after each iteration; True stops training. If it has a `begin`, that is called with the `Config`
before the first iteration; if it has a `close`, that is called at the end."""


def as_callbacks(callback: Callback | Sequence[Callback]) -> list[Callback]:
    """A callback, or several, as a list. Raises `UserError` for anything else."""
    callbacks = list(callback) if isinstance(callback, Sequence) else [callback]
    check(all(map(callable, callbacks)), "callback", callback, "a function of an Event, or several")
    return callbacks


@contextmanager
def begun(callbacks: Sequence[Callback], config: Any) -> Iterator[None]:
    """Calls the `begin` of those callbacks that have one, and at the end, whatever ends it, the `close` of
    those that have begun, in their order and of all even if one fails."""
    started: list[Callback] = []
    try:
        for callback in callbacks:
            getattr(callback, "begin", lambda _: None)(config)
            started.append(callback)
        yield
    finally:
        with ExitStack() as closing:
            for callback in reversed(started):
                closing.callback(getattr(callback, "close", lambda: None))


def headline(metrics: Mapping[str, float]) -> list[str]:
    """The few metrics to watch, of those there are, the most important first."""
    words = []
    if "return_before" in metrics:
        words.append(f"return {metrics['return_before']:.2f} → {metrics['return_after']:.2f}")
    elif "mean_reward" in metrics:
        words.append(f"mean reward {metrics['mean_reward']:.3g}")
    elif "return" in metrics:
        words.append(f"return {metrics['return']:.2f}")
    if "kl" in metrics:
        words.append(f"KL {metrics['kl']:.4f}")
    if metrics.get("step_accepted", 1.0) == 0.0:
        words.append("step refused")
    return words
