"""What a contract kit reports, and how its checks are run."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Problem:
    """One way in which a part breaks its contract."""

    severity: Literal["error", "warning"]
    """An error will break or mislead training; a warning is something that is seldom meant."""
    what: str
    """What is wrong, and where."""
    why: str
    """Why it matters."""
    remedy: str
    """What to do about it."""
    check: str = ""
    """The check that found it, in words."""

    def __str__(self) -> str:
        return f"{self.severity}: {self.what} {self.why} {self.remedy}"


class Stop(Exception):  # noqa: N818  a signal to the runner of the checks, as StopIteration is
    """A check cannot go on, because of a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


Check = Callable[[Any], Iterator[Problem]]
"""Looks at one aspect of its subject and yields what is wrong with it, or raises `Stop`."""


def error(what: str, why: str, remedy: str) -> Problem:
    """A problem that will break or mislead training."""
    return Problem("error", what, why, remedy)


def warning(what: str, why: str, remedy: str) -> Problem:
    """A problem that is seldom meant."""
    return Problem("warning", what, why, remedy)


def require(problems: Iterable[Problem]) -> None:
    """Raises `Stop` with the first of `problems`, if there is one."""
    for problem in problems:
        raise Stop(problem)


def collect(checks: Iterable[Check], subject: Any) -> list[Problem]:
    """All problems that the checks find, each once; no exception escapes."""
    found: dict[tuple[str, str], Problem] = {}
    for check in checks:
        for problem in _run(check, subject):
            found.setdefault((problem.severity, problem.what), problem)
    return list(found.values())


def _run(check: Check, subject: Any) -> Iterator[Problem]:
    name = _name(check)
    try:
        for problem in check(subject):
            yield replace(problem, check=name)
    except Stop as stop:
        yield replace(stop.problem, check=name)
    except Exception as failed:
        yield replace(_undecided(name, failed), check=name)


def _undecided(name: str, failed: Exception) -> Problem:
    text = (str(failed).strip().splitlines() or [""])[0]
    return error(
        f"The check '{name}' could not be carried out: {type(failed).__name__}: {text.rstrip('.')}.",
        "What it looks at is too far from the contract to be looked at.",
        "Mend the other problems first; if this one stays, compare with an environment, policy, rule or "
        "sampler of the library.",
    )


def _name(check: Check) -> str:
    return getattr(check, "__name__", type(check).__name__).strip("_").replace("_", " ")
