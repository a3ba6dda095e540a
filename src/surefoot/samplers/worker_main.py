"""What runs in a worker process."""

import os
import pickle
import signal
import threading
from collections.abc import Callable
from functools import lru_cache
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import jax

from surefoot.samplers.messages import answer

Settings = dict[str, Any]
_SETTINGS = (
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
)


def settings() -> Settings:
    """Those of JAX, in this process, that the numbers depend on."""
    return {name: jax.config.values[name] for name in _SETTINGS if name in jax.config.values}


def prepare(settings: Settings) -> None:
    """Computes as the process does that `settings` came from, but on one core: there is a worker for each.

    Only what is set before JAX first computes has an effect.
    """
    # XLA makes as many threads as this says. Its flag against threads would change the rounding.
    os.environ["NPROC"] = "1"
    jax.config.update("jax_platforms", "cpu")
    for name, value in settings.items():
        jax.config.update(name, value)


def serve(connection: Connection, setup: bytes, settings: Settings) -> None:
    """Answers calls until the connection is closed. `setup`, packed, makes what every call is given."""
    _leave_signals_to_the_parent()
    threading.Thread(target=_end_with_the_parent, name="surefoot-parent", daemon=True).start()
    prepare(settings)
    make = once(setup)
    connection.send_bytes(b"")  # ready
    while True:
        try:
            call = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(answer(make, call))


def once(setup: bytes) -> Callable[[], Any]:
    """The function that was packed, called when its result is first needed; that is then kept."""
    return lru_cache(maxsize=1)(lambda: pickle.loads(setup)())


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C in a terminal reaches every process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end_with_the_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
