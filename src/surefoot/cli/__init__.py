"""The command line: `surefoot COMMAND`, for training, evaluation, reports and measurements."""

import io
import os
import sys
from importlib.metadata import version

_USAGE = """\
surefoot: policy optimisation and meta-reinforcement learning

  surefoot train [PRESET] [--out RUN]   train (navigation-2d, unless a preset is named); leaves a run folder
                                        with metrics, checkpoints and a picture
  surefoot resume RUN                   continue a run that was interrupted, or train it further
  surefoot evaluate RUN                 adapt a trained policy to held-out tasks
  surefoot compare RUN RUN…             say by how much runs of several seeds differ, with intervals and
                                        learning curves as PNG and SVG
  surefoot report RUN…                  make one HTML file of runs, with curves to zoom, that needs no network
  surefoot watch RUN                    show the curves of a run in a browser while it trains
  surefoot trace RUN                    draw a timeline of a run's workers (train it with --trace)
  surefoot video RUN                    film a policy before and after adaptation, as MP4 and GIF
  surefoot export RUN -o FOLDER         write a policy as StableHLO and NumPy arrays, for use elsewhere
  surefoot list [WHAT]                  presets, envs, policies, baselines, rules, algorithms, …
  surefoot check KIND MODULE:NAME       find mistakes in your environment, policy, rule, sampler, …
  surefoot lab [EXPERIMENT | all]       measure what the theory says: a figure, a table and the claims
  surefoot reproduce TABLE              run what a published table needs, and print our figures beside it

Start with: surefoot train navigation-2d
The options of a command, and of a preset: surefoot evaluate --help, surefoot train bandit --help
The version: surefoot --version
Exit codes: 0 done, 1 failed, 2 wrong input or an error found by check, 129, 130 and 143 interrupted
"""


def main() -> None:
    """Runs the program. It exits with 0, 1 (training failed, a laboratory's claim does not hold, or the
    output was closed), 2 (wrong input, or an error found by `check`), or 129, 130 and 143
    (interrupted)."""
    for number, name in enumerate(("stdout", "stderr"), 1):
        if getattr(sys, name) is None:  # it was closed before the program began
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:  # standard input is closed too
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may have no letter for θ
            stream.reconfigure(errors="replace")
    try:
        try:
            code = run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed it, as in `surefoot list | head`
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
    # Imports all that the commands need, for which the above should not wait.
    from surefoot.cli.commands import execute

    return execute(*arguments)
