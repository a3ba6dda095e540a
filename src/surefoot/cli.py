"""The command line: `surefoot train | resume | evaluate | list | check`."""

import inspect
import json
import os
import sys
from collections.abc import Callable
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
from surefoot.experiment.interrupts import exit_code
from surefoot.experiment.serialise import load_config
from surefoot.experiment.training import NonFiniteError, Outcome
from surefoot.options import UserError, suggestion
from surefoot.report import finish
from surefoot.rules import AbstractRule

_USAGE = """\
surefoot: policy optimisation and meta-reinforcement learning

  surefoot train [PRESET] [--out RUN]   train (navigation-2d, unless a preset is named); leaves a run folder
                                        with metrics, checkpoints and a picture
  surefoot resume RUN                   go on with a run that was interrupted, or train it further
  surefoot evaluate RUN                 adapt a trained policy to held-out tasks
  surefoot list [WHAT]                  presets, envs, policies, baselines, rules, algorithms, samplers
  surefoot check env MODULE:CLASS       what is wrong with an environment of yours

Start with: surefoot train navigation-2d
Each command explains its options with --help, and so does each preset: surefoot train bandit --help
"""

_SWAPS = {"env": "envs", "policy": "policies", "inner": "rules", "outer": "rules", "rule": "rules"}
_SWAPS |= {"algorithm": "algorithms", "estimation.baseline": "baselines"}


@dataclass(frozen=True)
class _Train:
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None
    """The run folder to make; must not exist. By default one with today's date under runs/."""


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
    print("evaluating on held-out tasks …", file=sys.stderr)
    try:
        _print_result(finish(outcome.run))
    except KeyboardInterrupt:
        print(f"Training is complete, the evaluation is not. To make it: surefoot resume {folder.path}")
        raise
    print(f"run      {folder.path}\npicture  {folder.picture}")
    return 0


def _resume(arguments: list[str]) -> int:
    def command(run: tyro.conf.Positional[Path], /, iterations: int | None = None) -> Outcome:
        """Go on with a run from its latest checkpoint.

        Args:
            run: The run folder.
            iterations: A new total, to train a run further.
        """
        return resume(run, iterations=iterations, quiet=False)

    return _finish(tyro.cli(command, args=arguments, prog="surefoot resume"))


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
    table = Table(
        "step", "mean return", "95% interval",
        title=f"{result.preset}, iteration {result.iteration}: "
        f"{options.tasks} held-out tasks, {options.episodes} episodes a step",
        title_justify="left",
    )  # fmt: skip
    for row in result.summary()["returns"]:
        interval = f"{row['ci95'][0]:.2f} … {row['ci95'][1]:.2f}" if row["ci95"] else "unknown"
        table.add_row(str(row["step"]), f"{row['mean']:.2f}", interval)
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


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "resume": _resume,
    "evaluate": _evaluate,
    "list": _list,
    "check": _check,
}
