"""Messages to and from other processes: a call, and what came of it.

Arrays of JAX travel as their values and arrive as arrays of JAX; functions travel by their names.
"""

import importlib
import io
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import jax

from surefoot.options import UserError
from surefoot.types import is_key


class WorkerTraceback(Exception):  # noqa: N818 (it goes with an error)
    """Where in another process an exception was raised: the cause of the exception that the caller gets."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def packed(thing: Any, what: str) -> bytes:
    """Raises `UserError` about `what` if it cannot be sent."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(thing)
    except Exception as error:
        raise UserError(
            f"{what} cannot be sent to another process: {error}. Whatever is in it must be found by its name "
            "there: in place of a lambda, or of anything defined inside a function, use one that is defined "
            "at the top of a module."
        ) from error
    return buffer.getvalue()


def answer(make: Callable[[], Any], call: bytes) -> bytes:
    """Carries out a packed call (function, arguments) in the process that it was sent to. The function's
    first argument is what `make` gives; an exception is part of the answer."""
    try:
        function, arguments = pickle.loads(call)
        return packed((True, function(make(), *arguments)), f"The result of {name_of(function)}")
    except BaseException as error:
        return pickle.dumps((False, _sendable(error), "".join(traceback.format_exception(error))))


def unpacked(answered: bytes) -> Any:
    """The result in an answer, or its exception raised."""
    fine, result, *where = pickle.loads(answered)
    if fine:
        return result
    raise result from WorkerTraceback(*where)


def name_of(function: Callable[..., Any]) -> str:
    """As it was defined, or what it looks like if it has no name of its own."""
    return getattr(function, "__name__", repr(function))


def _sendable(error: BaseException) -> Exception:
    """The exception itself, if it survives the journey and cannot end the program that it arrives in."""
    try:
        arrived = pickle.loads(pickle.dumps(error))
    except Exception:
        arrived = None
    if isinstance(error, Exception) and isinstance(arrived, Exception):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


class _Pickler(pickle.Pickler):
    """Knows what Python's own does not: random keys, and functions that JAX wrapped, as `jnp.tanh`."""

    def reducer_override(self, obj: Any) -> Any:
        if is_key(obj):
            return _key, (jax.random.key_data(obj), str(jax.random.key_impl(obj)))
        name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
        # `_named` may be wrapped itself, by what checks types: it travels as Python's own does.
        if obj is not _named and hasattr(obj, "__wrapped__") and _is_found(obj, *name):
            return _named, name
        return NotImplemented


def _key(words: jax.Array, implementation: str) -> jax.Array:
    return jax.random.wrap_key_data(words, impl=implementation)


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
