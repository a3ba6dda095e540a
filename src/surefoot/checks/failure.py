"""Exceptions raised by the code under check, told in the terms of whoever wrote it."""

import re
import traceback
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from inspect import unwrap
from pathlib import Path
from typing import Any, NamedTuple

from jax import errors
from jaxtyping import TypeCheckError

from surefoot.checks.problem import Problem, Stop, error
from surefoot.loading import first_line, is_user_code, relative

_CHECKS = str(Path(__file__).parent)
_LONGEST = 200


class _Explanation(NamedTuple):
    raised: type[Exception]
    what: str
    why: str
    remedy: str


_UNKNOWN_YET = "Under jit a value is not known while the program is being traced."
_EXPLANATIONS = (
    _Explanation(
        errors.TracerBoolConversionError,
        "uses Python `if`, `while`, `and`, `or`, `not` or `assert` on a traced value",
        _UNKNOWN_YET,
        "Use jnp.where or lax.cond to choose, lax.while_loop to repeat, and & | ~ for and, or, not.",
    ),
    _Explanation(
        errors.TracerArrayConversionError,
        "hands a traced value to NumPy",
        "NumPy needs numbers, and under jit there are none yet.",
        "Use jax.numpy in place of numpy, and jnp.asarray(table)[index] to look something up.",
    ),
    _Explanation(
        errors.TracerIntegerConversionError,
        "uses a traced value as a Python integer",
        _UNKNOWN_YET,
        "Index a jnp array with it, not a list; repeat with lax.fori_loop, not range.",
    ),
    _Explanation(
        errors.NonConcreteBooleanIndexError,
        "selects with a traced mask, so that the size of the result depends on values",
        "Under jit every shape must be known before any value is.",
        "Keep the shape and blank what is not wanted: jnp.where(mask, x, 0).",
    ),
    _Explanation(
        errors.UnexpectedTracerError,
        "uses a traced value that an earlier call left behind",
        "What a call writes into an attribute or a global outlives the program it belongs to.",
        "Return what must be remembered in the state.",
    ),
    _Explanation(
        errors.ConcretizationTypeError,
        "needs the number behind a traced value, as float(x), int(x), x.item() and shapes made of values do",
        _UNKNOWN_YET,
        "Keep the value in a jnp array, and make shapes of the options.",
    ),
    _Explanation(
        FrozenInstanceError,
        "assigns to one of its own attributes",
        "It is immutable: many tasks and episodes share it at once.",
        "Return what changes in the state.",
    ),
)


def attempt(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`; raises `Stop` with a problem about `name` if that raises."""
    try:
        return function(*args)
    except Stop:
        raise
    except Exception as failed:
        raise Stop(problem_of(name, failed, function)) from None


def problem_of(name: str, failed: Exception, function: Callable[..., Any] | None = None) -> Problem:
    """The problem that an exception in `name` is, with the line it comes from."""
    where = location(failed, function)
    for known in _EXPLANATIONS:
        if isinstance(failed, known.raised):
            return error(f"`{name}` {known.what}{where}.", known.why, known.remedy)
    return error(
        f"`{name}` raised {summary(failed)}{where}.",
        "Nothing can be learned through a method that fails.",
        "Mend that line, or what it is given.",
    )


def summary(failed: BaseException) -> str:
    """The exception's kind and the first line of what it says."""
    text = str(failed).strip()
    if isinstance(failed, TypeCheckError) and (told := _type_error(text)):
        return told
    if at_run_time := re.search(r"EquinoxRuntimeError: (.*)", text):
        text = at_run_time[1]
    first = first_line(text)
    if len(first) > _LONGEST:
        first = first[:_LONGEST] + " …"
    return f"{type(failed).__name__}: {first}" if first else type(failed).__name__


def location(failed: BaseException, function: Callable[..., Any] | None = None) -> str:
    """` at FILE:LINE`: the deepest line of the user's own code, or else where `function` is defined."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(failed.__traceback__)]
    frames += re.findall(r'File "(.*)", line (\d+)', str(failed))  # of errors inside compiled programs
    code = getattr(unwrap(function), "__code__", None) if function is not None else None
    if code is not None and code.co_filename.startswith(_CHECKS):
        code = None
    defined = code.co_filename if code is not None else None
    for mine in (is_user_code, lambda file: file == defined):
        lines = [frame for frame in frames if mine(frame[0])]
        if lines:
            return f" at {relative(lines[-1][0])}:{lines[-1][1]}"
    return f" (defined at {relative(code.co_filename)}:{code.co_firstlineno})" if code is not None else ""


def _type_error(text: str) -> str | None:
    """A failed shape check, without the pages of context."""
    actual = re.search(r"^Actual value: (.*)$", text, re.MULTILINE)
    expected = re.search(r"^Expected type: (.*?)\.?$", text, re.MULTILINE)
    if actual is None or expected is None:
        return None
    whose = re.search(r"^(?:The problem arose whilst typechecking )?parameter '(\w+)'", text, re.MULTILINE)
    whose = whose or re.search(r"typechecking parameter '(\w+)'", text)
    wanted = re.sub(r"<class '(.*)'>", r"\1", expected[1]).replace("jaxlib._jax.", "")
    return (
        f"TypeCheckError: `{whose[1] if whose else 'its result'}` is {actual[1]} where {wanted} is expected"
    )
