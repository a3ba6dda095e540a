"""The training loop: of one run, or of many that are trained side by side in one program."""

import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from surefoot.experiment.interrupts import Interrupts
from surefoot.experiment.progress import TrainingProgress, headline


class NonFiniteError(Exception):
    """Training produced a loss or a parameter that is not a finite number."""


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
"""Called after each iteration; True stops training. Its `close` is called at the end, if it has one."""


@dataclass
class Member:
    """One run of those that are trained together."""

    iteration: int
    """Number of iterations behind it."""
    callbacks: Sequence[Callback] = ()
    name: str = ""
    """The name in messages."""
    failed: bool = False
    """Whether its loss or a parameter was not finite: it stays at the state before."""
    stopped: bool = False
    """Whether a callback stopped it."""


@dataclass(frozen=True)
class LoopOutcome:
    """The outcome of a loop."""

    state: Any
    """The last good state, with a leading axis of members if there are many."""
    members: Sequence[Member]
    interrupted: signal.Signals | None
    """The signal that ended it before the last iteration; None if it is complete."""

    def raise_failure(self, kept: str = "") -> None:
        """Raises `NonFiniteError` if the only member failed; `kept` says where the last good state is."""
        (member,) = self.members
        if member.failed:
            raise NonFiniteError(
                f"Iteration {member.iteration + 1} gave a loss or a parameter that is not finite, so "
                f"training stopped.{kept} Lower the learning rates, --rule.max-kl or --outer.max-kl, or look "
                "for rewards and observations that are not finite: surefoot check env."
            )


def run_loop(
    compiled: Callable[[], Any],
    state: Any,
    members: Sequence[Member],
    total: int,
    *,
    many: bool = False,
    quiet: bool,
) -> LoopOutcome:
    """Trains every member to iteration `total`, or until it fails, is stopped or a signal comes.

    `compiled` returns the step, `state -> (state, metrics)`, compiled. With `many` the state and the metrics
    have a leading axis of members, and a member that does not go on must keep its state in the step. The
    first Ctrl-C or SIGTERM ends the loop after the iteration, the second at once. Callbacks are closed
    whatever happens.
    """
    loop = _Loop(state, members, total, many)
    try:
        with Interrupts() as interrupts, TrainingProgress(total, loop.furthest(), quiet) as progress:
            progress.waiting("compiling the iteration" + f" of {len(members)} seeds" * many)
            step = compiled()
            while loop.going() and not interrupts.received:
                loop.advance(step, progress)
    finally:
        for callback in (c for member in members for c in member.callbacks):
            getattr(callback, "close", lambda: None)()
    return LoopOutcome(loop.state, members, interrupts.received if loop.going() else None)


class _Loop:
    """The loop's state, and one turn of it."""

    def __init__(self, state: Any, members: Sequence[Member], total: int, many: bool) -> None:
        self.state, self._members, self._total, self._many = state, members, total, many
        self._began = self.furthest()

    def furthest(self) -> int:
        return max(member.iteration for member in self._members)

    def going(self) -> list[int]:
        """The members that are neither at their end nor stopped."""
        return [
            i
            for i, member in enumerate(self._members)
            if member.iteration < self._total and not (member.failed or member.stopped)
        ]

    def advance(self, step: Any, progress: TrainingProgress) -> None:
        """One iteration of every member that goes on."""
        if self.furthest() > self._began:  # the first compiles what it needs, where parts do
            progress.waiting("sampling and learning")
        going, before, began = self.going(), self.state, time.monotonic()
        following, metrics = step(before)
        values = {name: np.atleast_1d(np.asarray(value, float)) for name, value in metrics.items()}
        values["seconds"] = np.full(len(self._members), time.monotonic() - began)
        finite = values.pop("finite") > 0
        self.state = following if self._many or finite[0] else before
        for i in going:
            row = {name: float(value[i]) for name, value in values.items()}
            self._tell(i, row, bool(finite[i]), progress)
        shown = {name: float(np.mean(value[going])) for name, value in values.items()}
        progress.completed(self.furthest(), shown)

    def _tell(self, i: int, metrics: Mapping[str, float], finite: bool, progress: TrainingProgress) -> None:
        member = self._members[i]
        event = Event(
            member.iteration + 1, self._total, metrics, lambda: take(self.state, i, self._many), finite
        )
        stops = [callback(event) is True for callback in member.callbacks]
        if finite:
            member.iteration += 1
            member.stopped = any(stops)
            return
        member.failed = True
        if self._many:
            progress.say(f"{member.name} stops: its loss or a parameter is not finite.")


def take(state: Any, i: int, many: bool) -> Any:
    """The state of member i."""
    return jax.tree.map(lambda x: x[i], state) if many else state


def stack(states: Iterable[Any]) -> Any:
    """States with a leading axis of members."""
    return jax.tree.map(lambda *x: jax.numpy.stack(x), *states)
