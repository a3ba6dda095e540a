"""Arguments that several commands share: presets, files, and whole parts to replace."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import docstring_parser
import tyro

from surefoot.cli.foreign import refuse_foreign_env, refuse_foreign_names, refuse_foreign_options
from surefoot.experiment import PRESETS, Config, parts, preset
from surefoot.experiment.files import quoted
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.presets import with_option
from surefoot.experiment.serialise import load_config
from surefoot.options import UserError

SWAPS = {
    "algorithm": "algorithms",
    "inner": "rules",
    "outer": "rules",
    "rule": "rules",
    "policy": "policies",
    "policy.auxiliary": "auxiliaries",
    "env": "envs",
    "env.env": "envs",
    "estimation.baseline": "baselines",
    "sampler": "samplers",
}
"""The options that replace whole parts, and the kind of each. A part that holds others comes before them: it
brings its own, which would replace those that were asked for."""

_Options = TypeVar("_Options")
_Run = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(help="A run folder, or a checkpoint in one.", metavar="RUN")
]


def parse(command: Callable[..., _Options], arguments: list[str], prog: str, **more: Any) -> _Options:
    """Calls `command` with the arguments, parsed by tyro. Exits after `--help`, and with an error if they are
    wrong."""
    with _flowing_docstrings():
        return tyro.cli(command, args=arguments, prog=prog, **more)


@contextmanager
def _flowing_docstrings() -> Iterator[None]:
    """Lets `--help` wrap an option's docstring at the terminal's width, not where the source is wrapped."""
    original = docstring_parser.parse_from_object

    def flowing(obj: Any) -> docstring_parser.Docstring:
        found = original(obj)
        for option in found.params:
            paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(option.description or ""))
            option.description = "\n\n".join(" ".join(text.split()) for text in paragraphs) or None
        return found

    docstring_parser.parse_from_object = flowing
    try:
        yield
    finally:
        docstring_parser.parse_from_object = original


def base_config(arguments: list[str]) -> tuple[Config, list[str]]:
    """The preset (by default the first of all), or the file after `--config`; and the other arguments.

    Raises `UserError` if there is none, or if the arguments name parts as another library does.
    """
    named = arguments and _is_word(arguments[0])
    names, rest = (arguments[:1], arguments[1:]) if named else ([], arguments)
    file, rest = take_option("--config", rest)
    if names and file:
        raise UserError("Give a preset or --config FILE, not both.")
    if names:
        if (Path(names[0]) / "config.yaml").is_file():
            run = quoted(Path(names[0]))
            raise UserError(
                f"{names[0]} is a run's folder and no preset. To go on with it: surefoot resume {run}. To "
                f"train anew with its options: surefoot train --config {run}/config.yaml"
            )
        refuse_foreign_env(names[0])
    refuse_foreign_names(rest)
    if file:
        return load_config(Path(file)), rest
    return preset(names[0] if names else next(iter(PRESETS))), rest


def run_options(
    name: str, arguments: list[str], default: Callable[[Config], _Options], example: str
) -> tuple[Path, Config, _Options]:
    """The run that a command names, its configuration, and the command's other options.

    `default` gives the default options for a configuration: the run's, or for `--help` that of the preset
    `example`.
    Raises `UserError` if there is no such run.
    """
    prog = f"surefoot {name}"
    if {"-h", "--help"} & set(arguments):
        run = None
    elif not any(map(_is_word, arguments)):
        raise UserError(f"Which run? Name a run folder: {prog} RUN")
    else:
        run = _likely_run(arguments)
    # Which word is the run depends on how many values an option takes, and so on the run's own options.
    for _ in range(2):
        config = preset(example) if run is None else load_config(RunFolder.open(run).config)
        start = default(config)
        start, rest = swap_parts(start, arguments, {"inner": "rules"} if hasattr(start, "inner") else {})

        def command(run: _Run, options: Annotated[Any, tyro.conf.arg(name="")] = start) -> tuple[Path, Any]:
            return run, options

        named, options = parse(command, rest, prog)
        if named == run:
            return named, config, options
        run = named
    raise UserError(f"Which word is the run? Put it first: {prog} RUN …")


def _likely_run(arguments: list[str]) -> Path | None:
    """The first argument if it is no option, or else the first word that names a run."""
    if _is_word(arguments[0]):
        return Path(arguments[0])
    for word in filter(_is_word, arguments):
        with suppress(UserError):
            RunFolder.open(Path(word))
            return Path(word)
    return None


def _is_word(argument: str) -> bool:
    return not argument.startswith("-")


def take_option(name: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of `--name VALUE` or `--name=VALUE`, and the arguments without it."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2], arguments[:i] + arguments[i + 1 :]
        if argument == name:
            if i + 1 == len(arguments):
                raise UserError(f"{name} needs a value.")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
    return None, arguments


def swap_parts(
    config: Any, arguments: list[str], kinds: dict[str, str] | None = None
) -> tuple[Any, list[str]]:
    """Replaces whole parts: `--outer natural-gradient` puts that rule, with its defaults, in the place of the
    preset's."""
    for option, kind in (SWAPS if kinds is None else kinds).items():
        name, arguments = take_option(f"--{option}", arguments)
        if name is not None:
            config = with_option(config, option.split("."), parts.make(kind, name), f"--{option}")
    if isinstance(config, Config):
        refuse_foreign_options(arguments, config)
    return config, arguments
