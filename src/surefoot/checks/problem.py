"""The problems that a contract kit reports, the calls of code under check, and loading it by name."""

import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jax import errors

from surefoot.loading import FAILURES, is_user_code, load, relative
from surefoot.options import UserError, first_line

_CHECKS = str(Path(__file__).parent)


@dataclass(frozen=True)
class Problem:
    """One way in which a part breaks its contract."""

    severity: Literal["error", "warning"]
    """An error will break or mislead training; a warning is something that is seldom meant."""
    what: str
    """The fault and its place."""
    why: str
    """Why it matters."""
    remedy: str
    """The remedy, as an instruction."""
    check: str = ""
    """The check that found it, in words."""

    def __str__(self) -> str:
        return f"{self.severity}: {self.what} {self.why} {self.remedy}"


Problems = Iterator[Problem]


class Stop(Exception):  # noqa: N818  a signal to the runner of the checks, as StopIteration is
    """A check cannot go on, because of a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def error(what: str, why: str, remedy: str) -> Problem:
    """A problem that will break or mislead training."""
    return Problem("error", what, why, remedy)


def warning(what: str, why: str, remedy: str) -> Problem:
    """A problem that is seldom meant."""
    return Problem("warning", what, why, remedy)


def require(problems: Iterable[Problem]) -> None:
    """Raise `Stop` with the first of `problems`, if there is one."""
    for problem in problems:
        raise Stop(problem)


def checks_of(kind: type) -> dict[str, Callable[[Any], Problems]]:
    """The checks of a kit by their names in words: the methods `check_…` of its class, in order, and of those
    that it derives from."""
    names = [name for cls in kind.__mro__ for name in vars(cls) if name.startswith("check_")]
    return {name.removeprefix("check_").replace("_", " "): getattr(kind, name) for name in names}


def collect(kit: Any, *names: str) -> list[Problem]:
    """The problems that the checks of those names find, or all checks, each once; no exception escapes.

    A check looks at one aspect of the part and yields what is wrong with it, or raises `Stop`.
    """
    found: dict[tuple[str, str], Problem] = {}
    checks = checks_of(type(kit))
    for name in names or checks:
        for problem in _run(checks[name], name, kit):
            found.setdefault((problem.severity, problem.what), replace(problem, check=name))
    return list(found.values())


def _run(check: Callable[[Any], Problems], name: str, kit: Any) -> Problems:
    try:
        yield from check(kit)
    except Stop as stop:
        yield stop.problem
    except (Exception, SystemExit) as failed:
        yield error(
            f"The check '{name}' could not be carried out: {summary(failed)}.",
            "What it looks at is too far from the contract to be looked at.",
            "Mend the other problems first; if this one stays, compare with a part of the library.",
        )


_UNKNOWN_YET = "Under jit a value is not known while the program is being traced."
_EXPLANATIONS: dict[type[Exception], tuple[str, str, str]] = {
    errors.TracerBoolConversionError: (
        "uses Python `if`, `while`, `and`, `or`, `not` or `assert` on a traced value",
        _UNKNOWN_YET,
        "Use jnp.where or lax.cond to choose, lax.while_loop to repeat, and & | ~ for and, or, not.",
    ),
    errors.TracerArrayConversionError: (
        "hands a traced value to NumPy",
        "NumPy needs numbers, and under jit there are none yet.",
        "Use jax.numpy in place of numpy, and jnp.asarray(table)[index] to look something up.",
    ),
    errors.TracerIntegerConversionError: (
        "uses a traced value as a Python integer",
        _UNKNOWN_YET,
        "Index a jnp array with it, not a list; repeat with lax.fori_loop, not range.",
    ),
    errors.NonConcreteBooleanIndexError: (
        "selects with a traced mask, so that the size of the result depends on values",
        "Under jit every shape must be known before any value is.",
        "Keep the shape and blank what is not wanted: jnp.where(mask, x, 0).",
    ),
    errors.UnexpectedTracerError: (
        "uses a traced value that an earlier call left behind",
        "What a call writes into an attribute or a global outlives the program it belongs to.",
        "Return what must be remembered in the state.",
    ),
    errors.ConcretizationTypeError: (  # the base class of some of those above
        "needs the number behind a traced value, as float(x), int(x), x.item() and shapes made of values do",
        _UNKNOWN_YET,
        "Keep the value in a jnp array, and make shapes of the options.",
    ),
    FrozenInstanceError: (
        "assigns to one of its own attributes",
        "It is immutable: many tasks and episodes share it at once.",
        "Return what changes in the state.",
    ),
}


def attempt(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`; raises `Stop` with a problem about `name` if that raises."""
    try:
        return function(*args)
    except Stop:
        raise
    except FAILURES as failed:
        raise Stop(problem_of(name, failed, function)) from None


def problem_of(name: str, failed: BaseException, function: Callable[..., Any] | None = None) -> Problem:
    """The problem that an exception in `name` is, with the line it comes from."""
    where = location(failed, function)
    for raised, (what, why, remedy) in _EXPLANATIONS.items():
        if isinstance(failed, raised):
            return error(f"`{name}` {what}{where}.", why, remedy)
    return error(
        f"`{name}` raised {summary(failed)}{where}.",
        "Nothing can be learned through a method that fails.",
        "Mend that line, or what it is given.",
    )


def summary(failed: BaseException) -> str:
    """The exception's class and the first line of its message."""
    text = str(failed).strip()
    if at_run_time := re.search(r"EquinoxRuntimeError: (.*)", text):
        text = at_run_time[1]
    first = first_line(text)
    return f"{type(failed).__name__}: {first}" if first else type(failed).__name__


def location(failed: BaseException, function: Callable[..., Any] | None = None) -> str:
    """` at FILE:LINE`: the deepest line of the user's own code, or else where `function` is defined."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(failed.__traceback__)]
    frames += re.findall(r'File "(.*)", line (\d+)', str(failed))  # of errors inside compiled programs
    code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
    if code is not None and code.co_filename.startswith(_CHECKS):
        code = None
    defined = code.co_filename if code is not None else None
    for mine in (is_user_code, lambda file: file == defined):
        lines = [frame for frame in frames if mine(frame[0])]
        if lines:
            return f" at {relative(lines[-1][0])}:{lines[-1][1]}"
    return f" (defined at {relative(code.co_filename)}:{code.co_firstlineno})" if code is not None else ""


def load_object(name: str) -> Any:
    """The object that `name`, written MODULE:NAME, stands for; a class is built without arguments.

    MODULE is a module's dotted name, looked for in the current directory too, or the path of a .py file.
    Raises `UserError` if there is no such thing, or it cannot be built.
    """
    found = load(name)
    if not inspect.isclass(found):
        return found
    try:
        return found()
    except UserError:
        raise
    except FAILURES as failed:
        raise UserError(
            f"{name} cannot be built without arguments: {summary(failed)}{location(failed)}. Give every "
            "option a default, and implement every abstract method."
        ) from failed
