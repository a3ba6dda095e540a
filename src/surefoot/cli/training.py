"""`surefoot train` and `surefoot resume`, and what follows training."""

import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro

from surefoot.cli.evaluating import print_result
from surefoot.cli.options import base_config, parse, swap_parts
from surefoot.cli.outcome import print_outcome, reserved_for_json, stdout_reserved
from surefoot.cli.seeds import print_seeds
from surefoot.cli.sweep import every_setting, print_sweep, random_settings, swept, take_sweeps
from surefoot.experiment import Config, NonFiniteError, resume, resume_many, train, train_many
from surefoot.experiment.files import quoted
from surefoot.experiment.folder import run_folders
from surefoot.experiment.interrupts import exit_code
from surefoot.experiment.many import Place, seeds_of
from surefoot.experiment.presets import with_decay
from surefoot.experiment.training import ManyOutcome, Outcome
from surefoot.options import UserError, check
from surefoot.report import finish, finish_seeds, finish_sweep

SWAPPING = """\
Trains a policy. Whole parts are swapped by name, and bring options of their own:
  --policy gru                          --env my_module:MyEnv
  --rule natural-gradient               (--inner and --outer of meta-learning)
  --algorithm off-policy-reinforce      --sampler processes
  --estimation.baseline value-network   --policy.auxiliary predict-reward

--sweep.NAME VALUE VALUE … trains with each value of the option --NAME, and compares them;
several such options give every combination, and --seeds that many runs of each:
  --sweep.rule.lr 1e-4 3e-4 1e-3 --seeds 5
  --sweep.rule.lr 1e-5..1e-2 --sweep-random 20       (numbers drawn between the ends)

All names are in `surefoot list`. --config FILE takes a run's config.yaml in a preset's place.
"""
# tyro shows lines that begin with a blank as they are.


_MOST = 10_000
"""Most seeds, and most random settings."""


@dataclass(frozen=True)
class _Train:
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None
    """The run folder to make; must not exist. By default one with today's date under runs/."""
    seeds: int = 1
    """Number of seeds, counting up from --seed; each leaves a run folder in --out. Environments in JAX train
    in one program, others one after another."""
    sweep_random: int | None = None
    """Number of random settings of a sweep, in place of every combination. A value LOW..HIGH is then a range.
    Between whole numbers all whole numbers are equally likely. Other numbers are uniform, or uniform in the
    logarithm where HIGH is 10 times LOW or more."""
    trace: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write timeline.jsonl into the run folder: what workers and the learner do when, for `surefoot trace`.
    Needs --sampler processes or ray, and a single seed."""
    on: Place = "here"
    """Place where the runs of --seeds and --sweep are trained: `here`, in one program where that can be, or
    on a `ray` cluster, a core for each run. The environment variable RAY_ADDRESS names the cluster, whose
    machines must reach --out; without it one is started on this machine."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show no progress on standard error."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object at the end, and nothing else on standard output."""


def command_train(arguments: list[str]) -> int:
    """Trains from the beginning; returns the exit code."""
    sweeps, arguments = take_sweeps(arguments)
    with reserved_for_json(arguments):
        options = _parsed(arguments)
        out = options.out or _default_folder(options.config)
        many = _many(options, sweeps, arguments)
    if many is None and options.on != "here":
        raise UserError("--on is for the runs of --seeds or --sweep; for one run see --sampler ray.")
    if many and options.trace:
        raise UserError("A timeline is that of one run; leave out --trace, or --seeds and --sweep.")
    quiet = options.quiet
    try:
        with stdout_reserved(discard=quiet) if options.json else nullcontext():
            if many:
                code = _finish_many(train_many(many, out, quiet=quiet, on=options.on), out, quiet)
            else:
                code = _finish(train(options.config, out, quiet=quiet, trace=options.trace), quiet)
    except NonFiniteError:
        if options.json:
            print_outcome(out, 1)
        raise
    if options.json:
        print_outcome(out, code)
    return code


def command_resume(
    run: tyro.conf.Positional[Path], /, iterations: int | None = None, on: Place = "here"
) -> int:
    """Go on with a run from its latest checkpoint.

    Args:
        run: The run folder, or the folder of many seeds.
        iterations: New total number of iterations, to train a run longer.
        on: Place where many runs are trained: here, or on a ray cluster, as surefoot train says.
    """
    if run_folders(run):
        return _finish_many(resume_many(run, iterations=iterations, quiet=False, on=on), run)
    return _finish(resume(run, iterations=iterations, quiet=False))


def _many(options: _Train, sweeps: dict[str, list[str]], arguments: list[str]) -> dict[str, Config] | None:
    """The configurations of many runs by the names of their folders; None for a single run."""
    number, config = options.sweep_random, options.config
    check(options.seeds <= _MOST, "seeds", options.seeds, f"{_MOST:,} or fewer")
    check((number or 1) <= _MOST, "sweep_random", number, f"{_MOST:,} or fewer")
    if not sweeps:
        if number is not None:
            raise UserError("--sweep-random is for a sweep. Name the options: --sweep.NAME LOW..HIGH")
        return None if options.seeds == 1 else seeds_of(config, options.seeds)
    settings = every_setting(sweeps) if number is None else random_settings(sweeps, number, config.seed)
    configs = swept(list(sweeps), settings, lambda chosen: _parsed([*arguments, *chosen]).config)
    return {
        f"{setting}/{name}": one
        for setting, config in configs.items()
        for name, one in seeds_of(config, options.seeds).items()
    }


def _parsed(arguments: list[str]) -> _Train:
    base, rest = base_config(arguments)
    base, rest = swap_parts(base, rest)
    prog = f"surefoot train {base.preset}"
    parsed = parse(_Train, rest, prog, default=_Train(base), description=SWAPPING)
    if any(word.startswith("--") and "decay-steps" in word for word in arguments):
        return parsed
    return replace(parsed, config=with_decay(parsed.config, base))


def _default_folder(config: Config) -> Path:
    preset = re.sub(r"[^\w.+-]+", "_", config.preset)  # some file systems refuse a colon
    return Path("runs") / f"{preset}_seed{config.seed}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def _finish(outcome: Outcome, quiet: bool = False) -> int:
    """Evaluate, and print the returns and the picture's path; or print how to resume."""
    folder = outcome.run.folder
    if outcome.interrupted:
        print(f"Interrupted after iteration {outcome.run.iteration}; nothing is lost. To go on:")
        print(f"  surefoot resume {quoted(folder.path)}")
        return exit_code(outcome.interrupted)
    if not quiet:
        print("evaluating …", file=sys.stderr)
    try:
        print_result(*finish(outcome.run))
    except KeyboardInterrupt:
        print("Training is complete, the evaluation is not. To make it:")
        print(f"  surefoot resume {quoted(folder.path)}")
        raise
    print(f"run      {folder.path}\npicture  {outcome.run.picture}")
    return 0


def _finish_many(outcome: ManyOutcome, out: Path, quiet: bool = False) -> int:
    """The same for many runs."""
    if outcome.interrupted:
        furthest = max(run.iteration for run in outcome.runs)
        print(f"Interrupted after iteration {furthest}; nothing is lost. To go on:")
        print(f"  surefoot resume {quoted(out)}")
        return exit_code(outcome.interrupted)
    for run in outcome.failed:
        print(
            f"{run.folder.path} stopped at iteration {run.iteration}: its loss or a parameter was not finite."
        )
    good = [run for run in outcome.runs if run not in outcome.failed]
    if not good:
        return 1
    if not quiet:
        print("evaluating every run …", file=sys.stderr)
    if good[0].folder.path.parent == out:
        print_seeds(finish_seeds(good, out, outcome.failed))
        picture = out / "seeds.png"
    else:
        print_sweep(finish_sweep(good, out, outcome.failed))
        picture = out / "sweep.png"
    print(f"runs     {out}\npicture  {picture}")
    return 1 if outcome.failed else 0
