"""What every room needs to take options from a user: one kind of error, and one check."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Something the user can mend. The message says what, why, and what to do; the command line prints it
    alone."""


def check(condition: bool, option: str, value: Any, wanted: str) -> None:
    """Raise a `UserError` unless `condition`: the option, the value it was given, and what it must be."""
    if not condition:
        raise UserError(f"{option.replace('_', '-')} is {value!r}; it must be {wanted}.")


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean …?`, if something known is close to `name`; otherwise nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
