"""Messages between processes: a call and its answer.

Before a worker answers a call of a new form it says so, and compiles: that does not count against the time
limit of the call. Arrays of JAX are sent as their values and arrive as arrays of JAX; functions are sent by
name.
"""

import importlib
import io
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import equinox as eqx
import jax

from surefoot.options import UserError

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Ended(KeyboardInterrupt):
    """Ends a worker, whatever it is doing, as Ctrl-C does: it is nobody's answer, and no error of the user's
    code."""


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


COMPILING, READY = b"compiling", b"ready"
"""The messages of a worker before and after it compiles. An answer is never one of them."""
_STAND_IN = "surefoot_stand_in"


def with_warm_up(stand_in: Callable[[Any], Any]) -> Callable[[_Function], _Function]:
    """Decorates a function that workers call and JAX compiles. Before a worker's first call with arguments of
    a new form the function is called with `stand_in(made)` in the place of `made`, without the user's
    environment, so that the call itself takes no time to compile."""

    def mark(function: _Function) -> _Function:
        setattr(function, _STAND_IN, stand_in)
        return function

    return mark


def answers(make: Callable[[], Any], known: set[Any], call: bytes) -> Iterator[bytes]:
    """Carries out a packed call (function, arguments). The function's first argument is `make()`. Yields
    `COMPILING` and `READY` if it has to compile, and then the answer, which holds the function's result or
    its exception. `known` are the forms of the calls before."""
    try:
        function, arguments = pickle.loads(call)
    except Exception as error:
        yield _failed(error)
        return
    stand_in = getattr(function, _STAND_IN, None)
    form = (name_of(function), _form(arguments)) if stand_in else None
    if form not in known:
        yield COMPILING
        try:
            made = make()
            if stand_in:
                function(stand_in(made), *arguments)
        except Ended:
            raise
        except BaseException:  # the call itself will raise it again
            pass
        known.add(form)
        yield READY
    yield answer(make, function, arguments)


def awaited(
    message: bytes, receive: Callable[[float], bytes], time_limit: float, start_limit: float
) -> bytes:
    """The answer to a call, of which `message` is the first message. `receive` waits for the next one for so
    many seconds at most: `start_limit` while the worker compiles, and then `time_limit` for the call."""
    if message == COMPILING:
        receive(start_limit)
        message = receive(time_limit)
    return message


def answer(make: Callable[[], Any], function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """The packed result of `function(make(), *arguments)`, or its exception."""
    try:
        return packed((True, function(make(), *arguments)), f"The result of {name_of(function)}")
    except Ended:
        raise
    except BaseException as error:
        return _failed(error)


def _failed(error: BaseException) -> bytes:
    return pickle.dumps((False, _sendable(error), "".join(traceback.format_exception(error))))


def _form(arguments: tuple[Any, ...]) -> Any:
    """The form of a call's arguments, on which its compiled program depends: structure, shapes and types; of
    other objects their type."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, *((getattr(x, "shape", None), getattr(x, "dtype", type(x))) for x in leaves)


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
