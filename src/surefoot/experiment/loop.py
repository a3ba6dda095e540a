"""The training loop: of one run, or of many that are trained side by side in one program."""

import signal
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy.special import ndtr

from surefoot.experiment.callbacks import Callback, Event, begun
from surefoot.experiment.config import Config
from surefoot.experiment.interrupts import Interrupts
from surefoot.experiment.presets import rate_ends
from surefoot.options import check, fits
from surefoot.types import is_key


class NonFiniteError(Exception):
    """Training produced a loss or a parameter that is not a finite number."""


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
    steps: float | None = None
    """Steps of the environment before the iteration; None before a resumed run's first, where they are not
    known here."""

    def __post_init__(self) -> None:
        if self.iteration == 0:
            self.steps = 0.0


@dataclass(frozen=True)
class LoopOutcome:
    """The outcome of a loop."""

    state: Any
    """The last good state, with a leading axis of members if there are many."""
    members: Sequence[Member]
    interrupted: signal.Signals | None
    """The signal that came, if one did: it ended training, or came in the last iteration."""

    def raise_failure(self, kept: str = "") -> None:
        """Raises `NonFiniteError` if the only member failed; `kept` says where the last good state is."""
        (member,) = self.members
        if member.failed:
            raise NonFiniteError(
                f"Iteration {member.iteration + 1} gave a loss or a parameter that is not finite, so "
                f"training stopped.{kept} Lower the learning rates, --rule.max-kl or --outer.max-kl, or look "
                "for rewards and observations that are not finite: surefoot check env."
            )

    def raise_signal(self) -> None:
        """Lets the signal that came, if any, have its effect: Ctrl-C is `KeyboardInterrupt`."""
        if self.interrupted:
            signal.raise_signal(self.interrupted)


def run_loop(
    config: Config,
    compiled: Callable[[], Any],
    state: Any,
    members: Sequence[Member],
    total: int,
    *,
    many: bool = False,
    callbacks: Sequence[Callback] = (),
) -> LoopOutcome:
    """Trains every member to iteration `total`, or until it fails, is stopped or a signal comes.

    `compiled` returns the step, `state -> (state, metrics)`, compiled. With `many` the state and the metrics
    have a leading axis of members, and a member that does not go on must keep its state in the step.
    `callbacks` are called once for an iteration, with the means of the members' metrics. All callbacks are
    begun with `config`, and closed whatever happens. The first Ctrl-C or SIGTERM ends the loop after the
    iteration, the second at once.
    """
    loop = _Loop(state, members, total, many, callbacks)
    everyone = [*callbacks, *(callback for member in members for callback in member.callbacks)]
    with begun(everyone, config), Interrupts() as interrupts:
        step = compiled()
        while loop.going() and not interrupts.received:
            loop.advance(step)
    return LoopOutcome(loop.state, members, interrupts.received)


@dataclass
class _Loop:
    """The loop's state, and one turn of it."""

    state: Any
    members: Sequence[Member]
    total: int
    many: bool
    callbacks: Sequence[Callback]

    def going(self) -> list[int]:
        """The members that are neither at their end nor stopped."""
        return [
            i
            for i, member in enumerate(self.members)
            if member.iteration < self.total and not (member.failed or member.stopped)
        ]

    def advance(self, step: Any) -> None:
        """One iteration of every member that goes on."""
        going, before, began = self.going(), self.state, time.monotonic()
        following, metrics = step(before)
        values = {name: np.atleast_1d(np.asarray(value, float)) for name, value in metrics.items()}
        if "episode_length" in values:  # 0 before any episode has ended
            none = values["episode_length"] == 0
            values |= {x: np.where(none, np.nan, values[x]) for x in ("return", "episode_length")}
        values["seconds"] = np.full(len(self.members), time.monotonic() - began)
        values |= _rates(self.members, values)
        finite = values.pop("finite") > 0
        self.state = following if self.many or finite[0] else before
        for i in going:
            self._tell(i, {name: float(value[i]) for name, value in values.items()}, bool(finite[i]))
        furthest = max(member.iteration for member in self.members)
        means = {name: float(np.mean(value[going])) for name, value in values.items()}
        _warn_of_the_scale(means)
        failed = tuple(self.members[i].name for i in going if not finite[i]) if self.many else ()
        state = self.state
        event = Event(furthest, self.total, means, lambda: state, bool(finite[going].all()), failed)
        for callback in self.callbacks:
            callback(event)

    def _tell(self, i: int, metrics: Mapping[str, float], finite: bool) -> None:
        member, state = self.members[i], self.state
        event = Event(member.iteration + 1, self.total, metrics, lambda: take(state, i, self.many), finite)
        told = [callback(event) for callback in member.callbacks]
        stops = [isinstance(stop, bool | np.bool_) and bool(stop) for stop in told]
        member.failed = not finite
        if finite:
            member.iteration += 1
            member.stopped = any(stops)


def _rates(members: Sequence[Member], values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The steps a second of an iteration of every member, NaN where they are not known."""
    if "steps" not in values:
        return {}
    before = np.array([np.nan if member.steps is None else member.steps for member in members])
    for member, steps in zip(members, values["steps"], strict=True):
        member.steps = float(steps)
    return {"steps_per_second": (values["steps"] - before) / values["seconds"]}


_LARGEST_RETURN = 1e15


def _warn_of_the_scale(metrics: Mapping[str, float]) -> None:
    """Warns of returns whose squares are beyond single precision, or would be after a little arithmetic."""
    returns = [abs(value) for name, value in metrics.items() if name.startswith("return")]
    if max(returns, default=0.0) > _LARGEST_RETURN:
        warnings.warn(
            f"The mean return is of the order of {max(returns):.0e}, and the squares of such numbers are "
            "beyond single precision: nothing can be learned from them. Give the rewards a scale near 1.",
            RuntimeWarning,
            stacklevel=2,
        )


def check_iterations(iterations: int) -> None:
    """Raises `UserError` unless this is a number of iterations to train for."""
    check(fits(iterations, int) and iterations >= 0, "iterations", iterations, "a whole number, 0 or more")


def warn_of_settings(config: Config, total: int) -> None:
    """Warns of settings with which training up to iteration `total` is possible and learns nothing, or
    little."""
    _warn_of_the_decay(config, total)
    _warn_of_the_bounds(config)


def _warn_of_the_decay(config: Config, total: int) -> None:
    """Warns where training goes on after the learning rate has come to 0."""
    name, last = rate_ends(config)
    if last < total:
        warnings.warn(
            f"The learning rate is 0 from iteration {last + 1} on, and training ends at {total}: nothing "
            f"more is learned. Train anew with --{name}.decay-steps {total}, or another --{name}.lr-end.",
            RuntimeWarning,
            stacklevel=4,
        )


def _warn_of_the_bounds(config: Config) -> None:
    """Warns where the environment would clip most of a new policy's actions in some component."""
    bounds = config.env.clipping_bounds
    if bounds is None:
        return
    std = getattr(config.policy, "initial_std", 1.0) * getattr(config.policy, "action_scale", 1.0)
    low, high = bounds
    outside = ndtr(low / std) + ndtr(-high / std)
    worst = int(np.argmax(outside))
    if outside[worst] > 0.5:
        option = "env.env.actions" if config.env.trial_episodes else "env.actions"
        warnings.warn(
            f"The environment clips {outside[worst]:.0%} of a new policy's actions: component {worst} comes "
            f"from a normal distribution with mean 0 and standard deviation {std:g}, and the bounds are "
            f"{low[worst]:g} and {high[worst]:g}. Little can be learned from clipped actions. Set "
            f"--{option} scaled, which maps −1 … 1 to the bounds.",
            RuntimeWarning,
            stacklevel=4,
        )


def take(state: Any, i: int, many: bool) -> Any:
    """The state of member i."""
    return jax.tree.map(lambda x: x[i], state) if many else state


def stack(states: Iterable[Any]) -> Any:
    """States with a leading axis of members."""
    return jax.tree.map(_stack, *states)


def _stack(*leaves: Any) -> Any:
    if is_key(leaves[0]):
        return jax.numpy.stack(leaves)
    return jax.numpy.asarray(np.stack([np.asarray(leaf) for leaf in leaves]))
