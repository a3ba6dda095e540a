"""Ctrl-C, SIGTERM and the end of the terminal: the first asks to stop after the iteration, the second stops
at once."""

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType

_END = b"\0"
"""The byte that ends the thread: no signal has the number 0."""
_active: "list[Interrupts]" = []


def _restore_in_a_fork() -> None:
    for interrupts in reversed(_active):
        with suppress(ValueError):  # the process was forked by another thread than the main one
            interrupts.restore()
    _active.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_a_fork)

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """A context in which the first signal is remembered and the second ends the process.

    Python runs signal handlers between bytecodes, and a compiled call or a compilation is one bytecode long.
    The second signal must not wait for it: the interpreter writes each signal's number to a pipe the moment
    it arrives, and a thread reads it there. A process that is forked meanwhile, as an environment may do, has
    its own signals as they were before.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The first signal, or None if there was none."""
        self._active = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "Interrupts":
        if self._active:
            self._read_end, self._write_end = os.pipe()
            os.set_blocking(self._write_end, False)
            # Under nohup the end of the terminal is ignored, and stays so.
            hangup = getattr(signal, "SIGHUP", None)
            kept = hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN
            heard = [number for number in _SIGNALS if not (kept and number == hangup)]
            self._handlers = {number: signal.signal(number, self._ignore) for number in heard}
            self._old_fd = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
            _active.append(self)
            self._watcher = threading.Thread(target=self._watch, name="surefoot-signals", daemon=True)
            self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            _active.remove(self)
            self.restore()
            # Not by closing the pipe: a forked process has it too.
            os.write(self._write_end, _END)
            self._watcher.join()
            os.close(self._write_end)
            os.close(self._read_end)

    def restore(self) -> None:
        """Lets signals have the effect that they had before."""
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ignore(self, number: int, frame: FrameType | None) -> None:
        """Does nothing: the thread has read the signal."""

    def _watch(self) -> None:
        while (data := os.read(self._read_end, 1)) != _END:
            number = data[0]
            if number not in _SIGNALS:
                continue
            if self.received is not None:
                os._exit(exit_code(signal.Signals(number)))
            self.received = signal.Signals(number)


def exit_code(received: signal.Signals) -> int:
    """The exit code of a process that a signal ended, as shells give it: 130 for SIGINT, 143 for SIGTERM,
    129 for SIGHUP."""
    return 128 + received
