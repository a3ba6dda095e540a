"""The command line: `surefoot train | resume | evaluate | video | list | check | lab`."""

import os
import sys
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
from surefoot.experiment.training import NonFiniteError
from surefoot.options import UserError, suggestion

_USAGE = """\
surefoot: policy optimisation and meta-reinforcement learning

  surefoot train [PRESET] [--out RUN]   train (navigation-2d, unless a preset is named); leaves a run folder
                                        with metrics, checkpoints and a picture
  surefoot resume RUN                   go on with a run that was interrupted, or train it further
  surefoot evaluate RUN                 adapt a trained policy to held-out tasks
  surefoot video RUN                    film a policy of MuJoCo before and after adaptation, as MP4 and GIF
  surefoot list [WHAT]                  presets, envs, policies, baselines, rules, algorithms, …
  surefoot check env MODULE:CLASS       what is wrong with an environment of yours
  surefoot lab [EXPERIMENT | all]       the theory, measured: a figure, a table and what they confirm

Start with: surefoot train navigation-2d
Each command explains its options with --help, and so does each preset: surefoot train bandit --help
"""


def main() -> None:
    """The program: exits with 0, 1 (training failed), 2 (the user can mend it) or 130 and 143
    (interrupted)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(_USAGE)
            return 0
        name, *rest = arguments
        if name not in _COMMANDS:
            raise UserError(
                f"There is no command {name!r}.{suggestion(name, _COMMANDS)} See: surefoot --help"
            )
        use_compilation_cache()
        return _COMMANDS[name](rest)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    except NonFiniteError as error:
        console.print(f"[bold red]training stopped:[/bold red] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a second start compiles nothing anew.

    `JAX_COMPILATION_CACHE_DIR` says where; the default is the user's cache folder. A user without a home goes
    without.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        except RuntimeError:
            return
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "surefoot" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": command_train,
    "resume": command_resume,
    "evaluate": command_evaluate,
    "video": command_video,
    "list": command_list,
    "check": command_check,
    "lab": command_lab,
}
