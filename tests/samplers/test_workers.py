"""Workers whose backends are in this process, and fail as they are told; and what messages carry."""

import gc
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.envs import Navigation2D
from surefoot.options import UserError
from surefoot.samplers.host_runner import HostRunner
from surefoot.samplers.messages import COMPILING, READY, answers, awaited, packed, unpacked, with_warm_up
from surefoot.samplers.remote import idle_runner
from surefoot.samplers.workers import AbstractWorkerBackend, LostError, Workers


def last(make: Callable[[], Any], message: bytes) -> bytes:
    """The answer to a call, without what a worker says before."""
    return list(answers(make, set(), message))[-1]


class FakeBackend(AbstractWorkerBackend):
    """A backend in this process. The first `lost` backends lose their calls; a call of `blocked` ends with
    the backend."""

    def __init__(self, log: list["FakeBackend"], lost: int, started: bool) -> None:
        log.append(self)
        self.doomed, self.closed, self.started = len(log) <= lost, threading.Event(), started

    def call(self, message: bytes, time_limit: float, start_limit: float) -> bytes:
        assert (time_limit, start_limit) == (60.0, 30.0)
        if self.doomed:
            raise LostError("was lost at sea", started=self.started)
        if pickle.loads(message)[0] is blocked:
            self.closed.wait()
            raise LostError("was closed")
        return last(lambda: "made", message)

    def close(self) -> None:
        self.closed.set()


def workers_of(
    *, lost: int = 0, workers: int = 1, attempts: int = 3, started: bool = True
) -> tuple[Workers, list[FakeBackend]]:
    backends: list[FakeBackend] = []
    options: dict[str, Any] = {
        "workers": workers,
        "attempts": attempts,
        "time_limit": 60.0,
        "start_limit": 30.0,
    }
    return Workers(lambda: FakeBackend(backends, lost, started), **options), backends


def join(made: str, *words: str) -> str:
    return " ".join([made, *words])


def blocked(made: str) -> None:
    """Never runs."""


def raises(made: str, error: Exception) -> None:
    raise error


def test_functions_are_given_what_was_made_and_their_arguments():
    workers, _ = workers_of()
    assert workers.submit(join, "of", "words").result() == "made of words"
    workers.close()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_call_is_made_again_on_a_new_backend(lost: int):
    workers, backends = workers_of(lost=lost)
    assert workers.submit(join).result() == "made"
    assert workers.submit(join).result() == "made"
    assert len(backends) == lost + 1
    workers.close()


@pytest.mark.parametrize(
    ("started", "told"),
    [
        (True, r"^The song failed \(3 attempts\): the worker process was lost at sea. If a task takes long"),
        (False, r"^The song failed: the worker process failed to start \(3 attempts\). It was lost at sea.$"),
    ],
)
def test_after_the_last_attempt_it_is_an_error_and_the_next_call_begins_anew(started: bool, told: str):
    workers, backends = workers_of(lost=3, started=started)
    with pytest.raises(UserError, match=told):
        workers.submit(join, about="The song").result()
    assert len(backends) == 3
    assert workers.submit(join).result() == "made"
    workers.close()


def test_a_call_that_is_cancelled_first_is_never_made():
    workers, _ = workers_of()
    running = workers.submit(blocked)
    waiting = workers.submit(raises, ValueError())
    assert waiting.cancel()
    while not running.running():
        time.sleep(0.001)
    workers.close()
    assert waiting.cancelled()
    assert isinstance(running.exception(), CancelledError)


RELEASED = threading.Event()


def waits(made: str) -> None:
    assert RELEASED.wait(60)


def copied(made: str, words: list[str]) -> list[str]:
    return list(words)


def test_arguments_are_those_of_the_time_of_the_call():
    """What changes while the call waits for a worker does not reach it."""
    RELEASED.clear()
    workers, _ = workers_of()
    workers.submit(waits)
    words = ["before"]
    future = workers.submit(copied, words)
    words.clear()
    RELEASED.set()
    assert future.result() == ["before"]
    workers.close()


def test_workers_that_nobody_refers_to_end_once_their_calls_are_done():
    workers, backends = workers_of(workers=2)
    future, gone = workers.submit(join), weakref.ref(workers)
    del workers
    assert future.result() == "made"
    del future
    gc.collect()
    assert backends[0].closed.wait(10)
    assert gone() is None


def test_nothing_starts_before_it_is_needed():
    workers, backends = workers_of(workers=5)
    workers.close()
    before = threading.active_count()
    workers.submit(join).result()
    assert len(backends) == 1
    workers.close()
    assert threading.active_count() == before


class StrangeError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("strange")


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (ValueError("no"), ValueError, "no"),
        (StrangeError(1, 2), RuntimeError, "StrangeError: strange"),
        (KeyboardInterrupt(), RuntimeError, "KeyboardInterrupt"),
    ],
)
def test_exceptions_survive_the_journey(error: BaseException, kind: type, told: str):
    answered = last(lambda: None, pickle.dumps((raises, (error,)))) if kind is ValueError else None
    answered = answered or last(_thrower(error), pickle.dumps((join, ())))
    with pytest.raises(kind, match=told) as raised:
        unpacked(answered)
    assert "Traceback (most recent call last)" in str(raised.value.__cause__)


def _thrower(error: BaseException) -> Callable[[], Any]:
    def throw() -> Any:
        raise error

    return throw


@pytest.mark.parametrize("function", [jnp.tanh, jax.nn.relu, jax.nn.silu, jax.nn.gelu, np.tanh])
def test_functions_that_jax_has_wrapped_arrive_as_themselves(function: Any):
    assert pickle.loads(packed({"activation": function}, "")) == {"activation": function}


def test_random_keys_and_arrays_arrive():
    key, array = pickle.loads(packed((jax.random.key(4), jnp.arange(3)), ""))
    assert (jax.random.key_data(key) == jax.random.key_data(jax.random.key(4))).all()
    assert isinstance(array, jax.Array)


def test_what_cannot_be_sent_is_said():
    workers, _ = workers_of()
    with pytest.raises(UserError, match=r"The song cannot be sent .* instead of a lambda"):
        workers.submit(join, lambda: None, about="The song").result()
    workers.close()


def test_a_result_that_cannot_be_sent_is_an_error():
    with pytest.raises(UserError, match="The result of _thrower cannot be sent"):
        unpacked(last(lambda: None, packed((_thrower, ()), "")))


CALLS: list[tuple[Any, ...]] = []


@with_warm_up(lambda made: f"idle {made}")
def recorded(made: str, *arguments: Any) -> int:
    CALLS.append((made, *arguments))
    if arguments == ("fails",):
        raise ValueError("of no use")
    return len(arguments)


def test_a_worker_compiles_before_a_call_of_a_new_form():
    CALLS.clear()
    known: set[Any] = set()

    def messages(*arguments: Any) -> list[bytes]:
        return list(answers(lambda: "made", known, packed((recorded, arguments), "")))

    for arguments in ((jnp.zeros(2), 1), (jnp.zeros(3), 1), (jnp.zeros(3), 1, 2), (jnp.zeros(3, int), 1)):
        first = messages(*arguments)
        assert first[:-1] == [COMPILING, READY]
        assert unpacked(first[-1]) == len(arguments)
        assert [call[0] for call in CALLS] == ["idle made", "made"]
        CALLS.clear()
        (again,) = messages(*jax.tree.map(lambda x: x + 1, arguments))
        assert unpacked(again) == len(arguments)
        assert [call[0] for call in CALLS] == ["made"]
        CALLS.clear()
    with pytest.raises(ValueError, match="of no use"):
        unpacked(messages("fails")[-1])


def test_what_is_not_compiled_is_called_once():
    made: list[str] = []
    known: set[Any] = set()
    message = packed((join, ("of",)), "")

    def make() -> str:
        made.append("once")
        return "made"

    assert [unpacked(x) for x in list(answers(make, known, message))[2:]] == ["made of"]
    assert len(list(answers(make, known, message))) == 1


def test_compiling_has_a_limit_of_its_own():
    limits: list[float] = []

    def receive(messages: list[bytes], limit: float) -> bytes:
        limits.append(limit)
        return messages.pop(0)

    for (first, *rest), wanted in (([b"answer"], []), ([COMPILING, READY, b"answer"], [9.0, 4.0])):
        assert awaited(first, partial(receive, rest), time_limit=4.0, start_limit=9.0) == b"answer"
        assert limits == wanted


def test_warming_up_takes_whatever_a_simulator_has_saved():
    runner = HostRunner(Navigation2D(horizon=3), 1)
    idle = idle_runner(runner).env.simulator(1)
    goals = jnp.zeros((2, 2))
    idle.restore(np.zeros((2, 1), np.uint32), goals)
    assert idle.step(np.arange(2), np.zeros((2, 2), np.float32)).terminated.all()
