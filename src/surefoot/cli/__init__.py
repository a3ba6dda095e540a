"""The command line: `surefoot train | resume | evaluate | video | list | check | lab`."""

import os
import sys
from importlib.metadata import version

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
surefoot --version says which this is.
"""


def main() -> None:
    """The program: exits with 0, 1 (training failed, or nobody reads what it prints), 2 (the user can mend
    it) or 130 and 143 (interrupted)."""
    try:
        try:
            code = run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # who reads it has seen enough, as in `surefoot list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_USAGE)
        return 0
    if arguments[0] in ("--version", "version"):
        print(version("surefoot"))
        return 0
    # With all that the commands need, for which the above should not wait.
    from surefoot.cli.commands import execute

    return execute(*arguments)
