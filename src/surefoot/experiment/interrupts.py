"""Ctrl-C, SIGTERM and the end of the terminal: the first asks to stop after the iteration, the second stops
at once."""

import os
import signal
import threading
from types import FrameType, TracebackType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """A context in which the first signal is remembered and the second ends the process.

    Python runs signal handlers between bytecodes, and a compiled call or a compilation is one bytecode long.
    The second signal must not wait for it: the interpreter writes each signal's number to a pipe the moment
    it arrives, and a thread reads it there.
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
            self._watcher = threading.Thread(target=self._watch, name="surefoot-signals", daemon=True)
            self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            signal.set_wakeup_fd(self._old_fd)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.close(self._write_end)
            self._watcher.join()
            os.close(self._read_end)

    def _ignore(self, number: int, frame: FrameType | None) -> None:
        """Does nothing: the thread has read the signal."""

    def _watch(self) -> None:
        while data := os.read(self._read_end, 1):
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
