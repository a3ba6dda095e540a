"""The command line: `surefoot train | resume | evaluate | list | check | lab`."""

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surefoot.algorithms import Meta
from surefoot.checks import check_env
from surefoot.checks.loading import load_object
from surefoot.experiment import PRESETS, Config, Evaluation, evaluate, load, parts, preset, resume, train
from surefoot.experiment.evaluation import EvaluationResult, default_steps, inner_rule
from surefoot.experiment.files import write_atomically
from surefoot.experiment.interrupts import exit_code
from surefoot.experiment.seeds import SeedsOutcome, resume_seeds, seed_folders, train_seeds
from surefoot.experiment.serialise import load_config
from surefoot.experiment.training import NonFiniteError, Outcome
from surefoot.options import UserError, check, suggestion
from surefoot.report import finish, finish_seeds
from surefoot.rules import AbstractRule

_USAGE = """\
surefoot: policy optimisation and meta-reinforcement learning

  surefoot train [PRESET] [--out RUN]   train (navigation-2d, unless a preset is named); leaves a run folder
                                        with metrics, checkpoints and a picture
  surefoot resume RUN                   go on with a run that was interrupted, or train it further
  surefoot evaluate RUN                 adapt a trained policy to held-out tasks
  surefoot list [WHAT]                  presets, envs, policies, baselines, rules, algorithms, …
  surefoot check env MODULE:CLASS       what is wrong with an environment of yours
  surefoot lab [EXPERIMENT | all]       the theory, measured: a figure, a table and what they confirm

Start with: surefoot train navigation-2d
Each command explains its options with --help, and so does each preset: surefoot train bandit --help
"""

_SWAPS = {"env": "envs", "policy": "policies", "inner": "rules", "outer": "rules", "rule": "rules"}
_SWAPS |= {"algorithm": "algorithms", "estimation.baseline": "baselines", "policy.auxiliary": "auxiliaries"}


@dataclass(frozen=True)
class _Train:
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None
    """The run folder to make; must not exist. By default one with today's date under runs/."""
    seeds: int = 1
    """Train so many seeds side by side in one program, from --seed on; each leaves a run folder in --out."""


@dataclass(frozen=True)
class _Evaluate:
    run: tyro.conf.Positional[Path]
    """A run folder, or a checkpoint in one."""
    evaluation: Annotated[Evaluation, tyro.conf.arg(name="")]
    inner: AbstractRule
    """How the policy adapts; several rates after --inner.lr are those of the steps in turn."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object and nothing else on standard output."""


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

    `JAX_COMPILATION_CACHE_DIR` says where; the default is the user's cache folder.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "surefoot" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _train(arguments: list[str]) -> int:
    base, rest = _base_config(arguments)
    base, rest = _swap_parts(base, rest)
    options = tyro.cli(_Train, default=_Train(base), args=rest, prog=f"surefoot train {base.preset}")
    out = options.out or _default_folder(options.config)
    if options.seeds != 1:
        return _finish_seeds(train_seeds(options.config, options.seeds, out, quiet=False), out)
    return _finish(train(options.config, out, quiet=False))


def _base_config(arguments: list[str]) -> tuple[Config, list[str]]:
    """The preset (by default the first of all), or the file after `--config`; and the other arguments."""
    names, rest = (arguments[:1], arguments[1:]) if arguments and arguments[0][0] != "-" else ([], arguments)
    file, rest = _take_option("--config", rest)
    if names and file:
        raise UserError("Give a preset or --config FILE, not both.")
    if file:
        return load_config(Path(file)), rest
    return preset(names[0] if names else next(iter(PRESETS))), rest


def _take_option(name: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of `--name VALUE` or `--name=VALUE`, and the arguments without it."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2], arguments[:i] + arguments[i + 1 :]
        if argument == name:
            if i + 1 == len(arguments):
                raise UserError(f"{name} needs a value.")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
    return None, arguments


def _swap_parts(
    config: Any, arguments: list[str], rooms: dict[str, str] | None = None
) -> tuple[Any, list[str]]:
    """Replaces whole parts: `--outer natural-gradient` puts that rule, with its defaults, in the place of the
    preset's."""
    for option, room in (rooms or _SWAPS).items():
        name, arguments = _take_option(f"--{option}", arguments)
        if name is not None:
            config = _replace_part(config, option.split("."), parts.find(room, name), option)
    return config, arguments


def _replace_part(holder: Any, path: list[str], part: type, option: str) -> Any:
    names = [field.name for field in fields(holder)]
    if path[0] not in names and isinstance(holder, Config):
        return replace(holder, algorithm=_replace_part(holder.algorithm, path, part, option))
    if path[0] not in names:
        raise UserError(f"This preset's {parts.name_of(holder)} has no --{option}.")
    if len(path) > 1:
        return replace(holder, **{path[0]: _replace_part(getattr(holder, path[0]), path[1:], part, option)})
    return replace(holder, **{path[0]: part()})


def _default_folder(config: Config) -> Path:
    name = f"{config.preset.replace('/', '_')}_seed{config.seed}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return Path("runs") / name


def _finish(outcome: Outcome) -> int:
    """What follows training: the picture, or how to go on."""
    folder = outcome.run.folder
    if outcome.interrupted:
        print(f"Interrupted after iteration {outcome.run.iteration}; nothing is lost. To go on:")
        print(f"  surefoot resume {folder.path}")
        return exit_code(outcome.interrupted)
    print("evaluating …", file=sys.stderr)
    try:
        _print_result(finish(outcome.run))
    except KeyboardInterrupt:
        print(f"Training is complete, the evaluation is not. To make it: surefoot resume {folder.path}")
        raise
    print(f"run      {folder.path}\npicture  {outcome.run.picture}")
    return 0


def _finish_seeds(outcome: SeedsOutcome, out: Path) -> int:
    """The same for many seeds."""
    if outcome.interrupted:
        print(f"Interrupted after iteration {outcome.runs[0].iteration}; nothing is lost. To go on:")
        print(f"  surefoot resume {out}")
        return exit_code(outcome.interrupted)
    for run in outcome.failed:
        print(
            f"{run.folder.path} stopped at iteration {run.iteration}: its loss or a parameter was not finite."
        )
    good = [run for run in outcome.runs if run not in outcome.failed]
    if not good:
        return 1
    print("evaluating every seed …", file=sys.stderr)
    summary = finish_seeds(good, out)
    table = Table("seed", "mean return")
    for seed, value in zip(summary["seeds"], summary["returns"], strict=True):
        table.add_row(str(seed), f"{value:.2f}")
    interval = summary["ci95"]
    spread = f" (95% interval {interval[0]:.2f} … {interval[1]:.2f})" if interval else ""
    Console().print(table)
    print(f"mean     {summary['mean']:.2f}{spread}\nruns     {out}\npicture  {out / 'seeds.png'}")
    return 1 if outcome.failed else 0


def _resume(arguments: list[str]) -> int:
    def command(run: tyro.conf.Positional[Path], /, iterations: int | None = None) -> int:
        """Go on with a run from its latest checkpoint.

        Args:
            run: The run folder, or the folder of many seeds.
            iterations: A new total, to train a run further.
        """
        if seed_folders(run):
            return _finish_seeds(resume_seeds(run, iterations=iterations, quiet=False), run)
        return _finish(resume(run, iterations=iterations, quiet=False))

    return tyro.cli(command, args=arguments, prog="surefoot resume")


def _evaluate(arguments: list[str]) -> int:
    asks_for_help = bool({"-h", "--help"} & set(arguments))
    words = [a for a in arguments if not a.startswith("-")]
    path = next((word for word in words if Path(word).exists()), words[0] if words else None)
    if path is None and not asks_for_help:
        raise UserError("Evaluate what? Name a run folder.")
    found = load(path) if path and not asks_for_help else None
    config = found.config if found else preset("navigation-2d")
    default = _Evaluate(
        run=Path(path or "RUN"),
        evaluation=replace(config.evaluation, steps=default_steps(config)),
        inner=inner_rule(config),
    )
    default, rest = _swap_parts(default, arguments, {"inner": "rules"})
    options = tyro.cli(_Evaluate, default=default, args=rest, prog="surefoot evaluate")
    assert found is not None
    result = evaluate(config, found.state.learner, found.iteration, options.evaluation, options.inner)
    if options.json:
        print(json.dumps(result.summary()))
    else:
        _print_result(result)
    return 0


def _print_result(result: EvaluationResult) -> None:
    options = result.options
    judged = f"{options.tasks} held-out tasks, {options.episodes} episodes a step"
    if options.tasks == 1:
        judged = f"{options.episodes} episodes"
    table = Table("step", "mean return", "95% interval")
    for row in result.summary()["returns"]:
        interval = f"{row['ci95'][0]:.2f} … {row['ci95'][1]:.2f}" if row["ci95"] else "unknown"
        table.add_row(str(row["step"]), f"{row['mean']:.2f}", interval)
    print(f"{result.preset}, iteration {result.iteration}: {judged}")
    Console().print(table)


def _list(arguments: list[str]) -> int:
    choices = ("presets", *parts.rooms())
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"surefoot list [{' | '.join(choices)}]")
        return 0
    for what in arguments or choices:
        if what not in choices:
            raise UserError(f"There is no list of {what!r}.{suggestion(what, choices)}")
        found = PRESETS if what == "presets" else parts.parts(what)
        table = Table(title=what, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, item in found.items():
            table.add_row(name, escape(_describe(item)))
        Console().print(table)
    return 0


def _describe(item: Config | type) -> str:
    if isinstance(item, Config):
        algorithm = item.algorithm
        rules = [option for option in vars(algorithm).values() if isinstance(option, AbstractRule)]
        words = [parts.name_of(item.env), parts.name_of(algorithm), *map(parts.name_of, rules)]
        return " · ".join([*words, *([f"{algorithm.order} order"] if isinstance(algorithm, Meta) else [])])
    return (inspect.getdoc(item) or "").split("\n\n")[0].replace("\n", " ")


def _check(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] != "env":
        raise UserError("Usage: surefoot check env MODULE:CLASS")
    problems = check_env(load_object(arguments[1]))
    for problem in problems:
        print(problem)
    print(f"{arguments[1]}: {len(problems)} problem{'s' * (len(problems) != 1)} found")
    return 2 if any(problem.severity == "error" for problem in problems) else 0


def _lab(arguments: list[str]) -> int:
    from surefoot.lab import EXPERIMENTS  # with SciPy, which no other command should wait for

    def command(experiment: tyro.conf.Positional[str] = "", /, seed: int = 0, out: Path = Path("lab")) -> int:
        """Measure what the theory says, on problems small enough to know everything about them.

        Args:
            experiment: One of those that `surefoot lab` lists, or `all`.
            seed: Everything random is drawn from it.
            out: The folder for the figures and tables.
        """
        if not experiment:
            return _list_experiments(EXPERIMENTS)
        if experiment not in ("all", *EXPERIMENTS):
            known = suggestion(experiment, ("all", *EXPERIMENTS))
            raise UserError(f"There is no experiment {experiment!r}.{known} `surefoot lab` lists them.")
        names = tuple(EXPERIMENTS) if experiment == "all" else (experiment,)
        check(seed >= 0, "seed", seed, "0 or more")
        held = [_run_experiment(name, EXPERIMENTS[name], seed, out) for name in names]
        return 0 if all(held) else 1

    return tyro.cli(command, args=arguments, prog="surefoot lab")


def _list_experiments(experiments: Mapping[str, type]) -> int:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, experiment in experiments.items():
        table.add_row(name, escape(_describe(experiment)))
    console = Console()
    console.print(table)
    console.print("\nsurefoot lab NAME runs one of them, surefoot lab all runs all.", highlight=False)
    return 0


def _run_experiment(name: str, experiment: type, seed: int, out: Path) -> bool:
    """Runs it, prints and keeps what it found, and returns whether all its claims hold."""
    from surefoot.lab import run

    found = run(experiment(), seed)
    table = Table(*map(escape, found.columns), title=f"{name}: {escape(found.title)}", title_justify="left")
    for row in found.rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else escape(str(cell)) for cell in row))
    console = Console(highlight=False)
    console.print(table)
    for claim in found.claims:
        mark = "[green]✓[/green]" if claim.holds else "[bold red]✗[/bold red]"
        console.print(f"{mark} {escape(claim.statement)}: {escape(claim.measured)}", soft_wrap=True)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"{name}.png", found.png())
    write_atomically(out / f"{name}.csv", found.csv())
    console.print(f"figure   {out / name}.png\ntable    {out / name}.csv\n", soft_wrap=True)
    return all(claim.holds for claim in found.claims)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "resume": _resume,
    "evaluate": _evaluate,
    "list": _list,
    "check": _check,
    "lab": _lab,
}
