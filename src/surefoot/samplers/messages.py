"""Messages between processes: a call and its answer.

Arrays of JAX are sent as their values and arrive as arrays of JAX; functions are sent by name.
"""

import importlib
import io
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import equinox as eqx

from surefoot.options import UserError


class Ended(BaseException):
    """Ends a worker, whatever it is doing; it is nobody's answer."""


class WorkerTraceback(Exception):  # noqa: N818 (it accompanies an error)
    """The traceback of an exception in another process: the cause of the exception that the caller gets."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def packed(thing: Any, what: str) -> bytes:
    """A pickled object. Raises `UserError`, which begins with `what`, if it cannot be sent."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(thing)
    except Exception as error:
        raise UserError(
            f"{what} cannot be sent to another process: {error}. Functions and classes are sent by name: "
            "instead of a lambda, or of anything defined inside a function, use one that is defined at the "
            "top of a module."
        ) from error
    return buffer.getvalue()


def answer(make: Callable[[], Any], call: bytes) -> bytes:
    """Carries out a packed call (function, arguments). The function's first argument is `make()`. The answer
    holds its result or its exception."""
    try:
        function, arguments = pickle.loads(call)
        return packed((True, function(make(), *arguments)), f"The result of {name_of(function)}")
    except Ended:
        raise
    except BaseException as error:
        return pickle.dumps((False, _sendable(error), "".join(traceback.format_exception(error))))


def unpacked(answered: bytes) -> Any:
    """The result in an answer. Raises the exception that it holds instead."""
    succeeded, result, *worker_traceback = pickle.loads(answered)
    if succeeded:
        return result
    raise result from WorkerTraceback(*worker_traceback)


def name_of(function: Callable[..., Any]) -> str:
    """The name that a function was defined with, or its `repr` if it has none."""
    return getattr(function, "__name__", repr(function))


def _sendable(error: BaseException) -> Exception:
    """The exception itself, if it can be pickled and cannot end the program in which it arrives; otherwise a
    `RuntimeError` with its message."""
    try:
        arrived = pickle.loads(pickle.dumps(error))
    except Exception:
        arrived = None
    if isinstance(error, Exception) and isinstance(arrived, Exception):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


class _Pickler(pickle.Pickler):
    """A pickler that also sends functions which JAX has wrapped, such as `jnp.tanh`, and modules so that they
    are freed where they arrive: Equinox keeps for ever what pickle makes by `Module.__new__`."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, eqx.Module):
            return _module, (type(obj), vars(obj))
        name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
        # A type checker may have wrapped `_named` itself, which Python's own pickler sends.
        if obj is not _named and hasattr(obj, "__wrapped__") and _is_found(obj, *name):
            return _named, name
        return NotImplemented


def _module(cls: type, fields: dict[str, Any]) -> Any:
    made = object.__new__(cls)
    vars(made).update(fields)
    return made


def _named(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _is_found(obj: Any, module: Any, name: Any) -> bool:
    try:
        return _named(module, name) is obj
    except Exception:
        return False
