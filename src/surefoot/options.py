"""Options that a user sets: their types and bounds, and the one kind of error that a wrong one raises."""

import dataclasses
import difflib
import importlib
import operator
from collections.abc import Callable, Collection, Iterable
from functools import cache
from math import inf
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from jax import Array
from jax.core import Tracer

_LONGEST = 200
"""Characters of a value, or of an exception's message, that are shown."""


class UserError(Exception):
    """An error that the user can correct. The message says what, why, and what to do; the command line
    prints it alone."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """The values that an option may have: `Annotated[float, Positive]`.

    None always passes; of a tuple every element must pass, or the tuple itself where `whole` is set.
    """

    holds: Callable[[Any], bool]
    words: str
    """The condition in words, which follow "it must be"."""
    most: float | int = inf
    """The largest value that the machine can count to."""
    whole: bool = False


def at_least(least: int) -> Bound:
    """A bound for counts, which must also fit into 32 bits."""
    return Bound(lambda value: value >= least, f"{least} or more", most=2**31 - 1)


def length_at_least(least: int, words: str) -> Bound:
    """A bound for the number of elements of a tuple."""
    return Bound(lambda values: len(values) >= least, words, whole=True)


Workers = Bound(lambda value: 0 <= value <= 1024, "from 0 to 1024")
Positive = Bound(lambda value: 0 < value < inf, "a positive number")
NonNegative = Bound(lambda value: 0 <= value < inf, "0 or more, and finite")
Fraction = Bound(lambda value: 0 <= value <= 1, "between 0 and 1")
OpenFraction = Bound(lambda value: 0 < value < 1, "above 0 and below 1")
Printable = Bound(str.isprintable, "a text on one line, without control characters")
Seed = Bound(lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")


class Options:
    """The base of a dataclass of options, whose types and bounds are checked when one is made.

    An option that JAX traces has no value yet and only its type is checked, so that numeric options can be
    vmapped. A list becomes a tuple, and a number of NumPy's or JAX's one of Python's, since options are
    constants of compiled programs. A class with more to check defines `__post_init__` and calls this one
    first. Raises `UserError`.
    """

    def __post_init__(self) -> None:
        for name, kind, bounds in _options(type(self)):
            value: Any = getattr(self, name)
            plain = _plain(tuple(value) if isinstance(value, list) else value)
            if plain is not value and fits(plain, kind):
                value = plain
                object.__setattr__(self, name, value)
            check(fits(value, kind), name, value, described(kind))
            for bound in bounds:
                parts: Any = value if isinstance(value, tuple) and not bound.whole else (value,)
                checked = [part for part in parts if part is not None and not isinstance(part, Tracer)]
                wanted = f"{bound.words}, or none" if type(None) in get_args(kind) else bound.words
                check(all(map(bound.holds, checked)), name, value, wanted)
                small = bound.most == inf or all(part <= bound.most for part in checked)
                check(small, name, value, f"at most {bound.most}")


def _plain(value: Any) -> Any:
    """A number in an array as Python has it, and a tuple of plain ones."""
    if isinstance(value, tuple):
        plain = tuple(map(_plain, value))
        return value if all(map(operator.is_, plain, value)) else plain
    is_number = isinstance(value, np.ndarray | np.generic | Array) and not isinstance(value, Tracer)
    return value.item() if is_number and value.shape == () else value


@cache
def _options(cls: type) -> tuple[tuple[str, Any, tuple[Bound, ...]], ...]:
    """The name, the type and the bounds of every option of a class."""
    hints, found = get_type_hints(cls, include_extras=True), []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kind, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        found.append((field.name, kind, tuple(part for part in more if isinstance(part, Bound))))
    return tuple(found)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the type `kind`, as options are annotated. A whole number is a number too, and
    JAX's and NumPy's count as Python's do."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if origin is Callable:
        return callable(value)
    if kind in (int, float):
        if hasattr(value, "dtype"):
            kinds = np.integer if kind is int else (np.integer, np.floating)
            return value.shape == () and issubclass(np.dtype(value.dtype).type, kinds)
        return isinstance(value, Integral if kind is int else Real) and type(value) is not bool
    if kind is Any or origin is not None or not isinstance(kind, type):
        return True
    return isinstance(value, kind)


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def described(kind: Any, sequence: str = "tuple", nothing: str = "none") -> str:
    """The values of a type in words, which follow "it must be". `sequence` and `nothing` are what a tuple and
    None are called where the value was written."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"a {sequence}" if arguments[1:] == (...,) else f"a {sequence} of {len(arguments)}"
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is Callable:
        return "a function"
    if arguments:
        return " or ".join(described(one, sequence, nothing) for one in arguments)
    if kind is type(None):
        return nothing
    return _WORDS.get(kind) or f"an object of class {kind.__name__}"


def check(condition: bool, option: str, value: Any, wanted: str) -> None:
    """Raise a `UserError` unless `condition`: the option, the value it was given, and what it must be."""
    if not condition:
        raise UserError(f"{option.replace('_', '-')} is {shown(value)}; it must be {wanted}.")


def shown(value: Any) -> str:
    """`repr` for messages: on one line, cut where it is long, whatever the value is."""
    return _cut(on_one_line(value))


def on_one_line(value: Any) -> str:
    """`repr` on one line, whatever the value is."""
    try:
        return " ".join(repr(value).split())
    except Exception as error:  # a number of too many digits, a nesting too deep, or the user's own method
        return f"a {type(value).__name__} whose `repr` raised {type(error).__name__}"


def first_line(text: str) -> str:
    """The first line of an exception's message, without a full stop, cut where it is long."""
    return _cut((text.strip().splitlines() or [""])[0].rstrip("."))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def import_extra(module: str, needs: str, extra: str) -> Any:
    """An optional module. Raises `UserError` if it is not installed. `needs` is what needs which package, as
    in "Atari games need ale-py", and `extra` the one of surefoot's that has it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{needs}, and importing it failed: {error}. Install it: pip install 'surefoot[{extra}]'."
        ) from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean …?`, if something known is close to `name`; otherwise nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def must_be_one_of(what: str, name: str, known: Collection[str], more: str = "") -> None:
    """Raise a `UserError` unless `name` is known: "There is no preset 'x'.", a suggestion, and `more`."""
    if name not in known:
        raise UserError(f"There is no {what} {name!r}.{suggestion(name, known)} {more}".rstrip())
