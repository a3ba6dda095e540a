"""Carries out a command, and prints its errors."""

import os
from collections.abc import Callable
from pathlib import Path

import jax
from rich.console import Console
from rich.markup import escape

from surefoot.cli.evaluating import command_evaluate
from surefoot.cli.filming import command_video
from surefoot.cli.laboratory import command_lab
from surefoot.cli.showing import command_check, command_list
from surefoot.cli.training import command_resume, command_train
from surefoot.experiment import NonFiniteError
from surefoot.options import UserError, suggestion
from surefoot.samplers.host_runner import disable_async_dispatch

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": command_train,
    "resume": command_resume,
    "evaluate": command_evaluate,
    "video": command_video,
    "list": command_list,
    "check": command_check,
    "lab": command_lab,
}


def execute(name: str, *arguments: str) -> int:
    """Carries out one command and returns its exit code. A `UserError` is printed without a traceback."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        if name not in COMMANDS:
            raise UserError(f"There is no command {name!r}.{suggestion(name, COMMANDS)} See: surefoot --help")
        use_compilation_cache()
        disable_async_dispatch()  # before JAX computes: a sampler may be made after that
        return COMMANDS[name](list(arguments))
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    except NonFiniteError as error:
        console.print(f"[bold red]training stopped:[/bold red] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130


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
