"""Carries out a command, and prints its errors."""

import errno
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape

from surefoot.cli.comparing import command_compare
from surefoot.cli.evaluating import command_evaluate
from surefoot.cli.exporting import command_export
from surefoot.cli.filming import command_video
from surefoot.cli.laboratory import command_lab
from surefoot.cli.options import parse
from surefoot.cli.reporting import command_report
from surefoot.cli.reproducing import command_reproduce
from surefoot.cli.showing import command_check, command_list
from surefoot.cli.tracing import command_trace
from surefoot.cli.training import command_resume, command_train
from surefoot.cli.watching import command_watch
from surefoot.experiment import NonFiniteError
from surefoot.loading import told, user_line
from surefoot.options import UserError, must_be_one_of, shown
from surefoot.samplers.host_runner import disable_async_dispatch

PARSED: dict[str, Callable[..., int]] = {
    "resume": command_resume,
    "compare": command_compare,
    "report": command_report,
    "watch": command_watch,
    "trace": command_trace,
    "export": command_export,
    "lab": command_lab,
    "reproduce": command_reproduce,
}
"""Commands whose parameters are their options, and whose docstring is their help."""
RAW: dict[str, Callable[[list[str]], int]] = {
    "train": command_train,
    "evaluate": command_evaluate,
    "video": command_video,
    "list": command_list,
    "check": command_check,
}
"""Commands that read their arguments themselves."""


def execute(name: str, *arguments: str) -> int:
    """Carries out one command and returns its exit code. A `UserError` is printed without a traceback."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        must_be_one_of("command", name, (*PARSED, *RAW), "See: surefoot --help")
        use_compilation_cache()
        disable_async_dispatch()  # before JAX computes: a sampler may be made after that
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, console, set())
            if name in RAW:
                return RAW[name](list(arguments))
            return parse(PARSED[name], list(arguments), f"surefoot {name}")
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno not in _DISK | _PATHS:
            raise
        where = error.filename or "a file of the run"
        if error.errno in _PATHS:
            console.print(f"[bold red]error:[/bold red] {escape(shown(str(where)))}: {error.strerror}.")
            return 2
        remedy = "Make room, then" if error.errno in _FULL else "Once that is mended,"
        console.print(
            f"[bold red]error:[/bold red] {escape(str(where))}: {error.strerror}. What was written before is "
            f"kept. {remedy} give the command again, or go on with training: surefoot resume RUN"
        )
        return 2
    except NonFiniteError as error:
        console.print(f"[bold red]training stopped:[/bold red] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # also SystemExit, which ends a program without a word
        if user_line(error) is None:
            raise
        console.print(
            f"[bold red]error:[/bold red] {escape(told(error))}. That is in your own code; what was written "
            "before is kept. surefoot check finds mistakes in parts of your own."
        )
        return 2


_FULL = {errno.ENOSPC, errno.EDQUOT}
"""Error numbers of a disk that is full."""
_DISK = {*_FULL, errno.EROFS, errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE}
"""Those, and the numbers of a file or disk that is gone or closed."""
_PATHS = {
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EPERM,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENFILE,
}
"""Numbers of a path that cannot be, and of too many open files."""


def _show_warning(console: Console, shown: set[str], message: Warning | str, *_: Any) -> None:
    """Prints a warning that has not been printed yet."""
    if str(message) not in shown:
        console.print(f"[yellow]warning:[/yellow] {escape(str(message))}")
        shown.add(str(message))


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a second start does not compile them again.

    The folder is `JAX_COMPILATION_CACHE_DIR`, or by default one in the user's cache folder. A user without a
    home folder has no cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        except RuntimeError:
            return
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "surefoot" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
