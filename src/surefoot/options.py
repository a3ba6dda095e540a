"""Options that a user sets: their bounds, and the one kind of error that a wrong one raises."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from functools import cache
from math import inf
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from jax.core import Tracer


class UserError(Exception):
    """Something the user can mend. The message says what, why, and what to do; the command line prints it
    alone."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """The values that an option may have: `Annotated[float, Positive]`.

    None always passes; of a tuple every element must pass.
    """

    holds: Callable[[Any], bool]
    words: str
    """The condition in words, which follow "it must be"."""
    most: float | int = inf
    """The largest value that the machine can count to."""


def at_least(least: int) -> Bound:
    """A bound for counts, which must also fit into 32 bits."""
    return Bound(lambda value: value >= least, f"{least} or more", most=2**31 - 1)


Positive = Bound(lambda value: 0 < value < inf, "a positive number")
NonNegative = Bound(lambda value: 0 <= value < inf, "0 or more, and finite")
Fraction = Bound(lambda value: 0 <= value <= 1, "between 0 and 1")
OpenFraction = Bound(lambda value: 0 < value < 1, "above 0 and below 1")
Printable = Bound(str.isprintable, "a text on one line, without control characters")
Seed = Bound(lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")


class Options:
    """The base of a dataclass of options, whose bounds are checked when one is made.

    An option that JAX traces has no value yet and is not checked, so that numeric options can be vmapped. A
    class with more to check defines `__post_init__` and calls this one first. Raises `UserError`.
    """

    def __post_init__(self) -> None:
        for name, bound, optional in _bounds(type(self)):
            value = getattr(self, name)
            parts = value if isinstance(value, tuple) else (value,)
            checked = [part for part in parts if part is not None and not isinstance(part, Tracer)]
            wanted = f"{bound.words}, or none" if optional else bound.words
            check(all(map(bound.holds, checked)), name, value, wanted)
            small = bound.most == inf or all(part <= bound.most for part in checked)
            check(small, name, value, f"at most {bound.most}")


@cache
def _bounds(cls: type) -> tuple[tuple[str, Bound, bool], ...]:
    """The name, the bound and whether None is allowed, of every option of a class that has a bound."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        (field.name, bound, type(None) in get_args(get_args(hint)[0]))
        for field in dataclasses.fields(cls)
        if get_origin(hint := hints[field.name]) is Annotated
        for bound in get_args(hint)[1:]
        if isinstance(bound, Bound)
    )


def check(condition: bool, option: str, value: Any, wanted: str) -> None:
    """Raise a `UserError` unless `condition`: the option, the value it was given, and what it must be."""
    if not condition:
        raise UserError(f"{option.replace('_', '-')} is {shown(value)}; it must be {wanted}.")


def shown(value: Any, length: int = 200) -> str:
    """`repr` for messages: on one line, cut after `length` characters, whatever the value is."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # a number of too many digits, a nesting too deep, or the user's own method
        text = f"a {type(value).__name__} whose `repr` raised {type(error).__name__}"
    return text if len(text) <= length else text[:length] + " …"


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean …?`, if something known is close to `name`; otherwise nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
