"""`surefoot list` and `surefoot check`."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

from rich.console import Console

from surefoot.checks import (
    Problem,
    check_algorithm,
    check_baseline,
    check_env,
    check_gymnasium,
    check_policy,
    check_rule,
    check_sampler,
    load_object,
)
from surefoot.checks.problem import error
from surefoot.cli.options import SWAPS
from surefoot.envs import AbstractFamily, AbstractProbe
from surefoot.envs.base import with_time_limit
from surefoot.experiment import PRESETS, parts
from surefoot.experiment.presets import OPEN_PRESETS, preset
from surefoot.loading import load
from surefoot.options import UserError, must_be_one_of
from surefoot.reproduction import TABLES
from surefoot.samplers import BatchedSampler


def command_list(arguments: list[str]) -> int:
    """Shows presets and parts; returns the exit code."""
    choices = ("presets", "reproduce", *parts.KINDS)
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"surefoot list [{' | '.join(choices)}]")
        return 0
    for what in arguments:
        must_be_one_of("list of", what, choices)
    shown = {"presets": _print_presets, "reproduce": _print_tables}
    for what in arguments or choices:
        shown[what]() if what in shown else _print_parts(what)
    return 0


def _print_tables() -> None:
    """Prints the published tables: for each its title and its methods."""
    rows = {
        name: (table.title, ", ".join(row.method for row in table.rows)) for name, table in TABLES.items()
    }
    print_rows("published tables: surefoot reproduce TABLE", rows)


def _print_presets() -> None:
    """Prints the presets, grouped by environment: its algorithms, then a line about it."""
    rows: dict[str, list[str]] = {}
    for name in PRESETS:
        environment, algorithm = name.split("/")
        rows.setdefault(environment, []).append(algorithm)
    shown = {
        environment: (", ".join(algorithms), _environment(PRESETS[f"{environment}/{algorithms[0]}"].env))
        for environment, algorithms in rows.items()
    }
    shown |= {kind: (", ".join(configs), told) for kind, (configs, told) in OPEN_PRESETS.items()}
    print_rows("presets: surefoot train ENVIRONMENT/ALGORITHM, by default the first of these", shown)


def _environment(env: AbstractFamily) -> str:
    """One line about an environment: its name in the package it is from, or its class's description."""
    name = getattr(env, "name", None)
    return f"{name} of {parts.name_of(env)}" if name else describe(type(env))


def _print_parts(kind: str) -> None:
    options = ", ".join(f"--{option}" for option, of in SWAPS.items() if of == kind)
    known = parts.parts(kind)
    probes = {name: (describe(cls),) for name, cls in known.items() if issubclass(cls, AbstractProbe)}
    rest = {name: (describe(cls),) for name, cls in known.items() if name not in probes}
    print_rows(f"{kind}: {options}", rest)
    if probes:
        print_rows("envs for tests, whose values are known", probes)


def print_rows(heading: str, rows: Mapping[str, tuple[str, ...]]) -> None:
    """Prints names and the lines that belong to each, wrapped where the terminal ends; 80 columns if the
    output is no terminal."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    indent = max(map(len, rows)) + 4
    console.print(textwrap.fill(heading, console.width), style="bold")
    for name, lines in rows.items():
        width = max(20, console.width - indent)
        wrapped = [part for line in lines for part in textwrap.wrap(line, width, break_on_hyphens=False)]
        console.print(f"  {name:{indent - 2}}" + f"\n{'':{indent}}".join(wrapped))
    console.print()


def describe(cls: type) -> str:
    """The first sentence of a class's docstring."""
    paragraph = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph)[0]


def _check_env(name: str) -> list[Problem]:
    """The problems of an environment; of a family that is stepped from the host, those of its episodes."""
    library, colon, _ = name.partition(":")
    of_the_user = bool(colon) and library not in parts.LIBRARIES
    if library == "gym" or (of_the_user and parts.makes_gymnasium(load(name))):
        return check_gymnasium(parts.make("envs", name))
    if of_the_user:
        env = load_object(name)
    else:
        known = name in {preset.partition("/")[0] for preset in PRESETS}
        env = preset(name).env if known else parts.make("envs", name)
        _ = env.action_space  # an error where there is none of this name
    if isinstance(env, AbstractFamily) and not env.is_traceable:
        with closing(BatchedSampler(with_time_limit(env, _STEPS), episodes=2, threads=1)) as sampler:
            return check_sampler(sampler)
    return check_env(env)


_STEPS = 100
"""Steps of an episode that is checked, where the environment has no time limit."""
_CHECKS: Mapping[str, Callable[[str], list[Problem]]] = {
    "env": _check_env,
    "policy": lambda name: check_policy(load_object(name)),
    "baseline": lambda name: check_baseline(load_object(name)),
    "rule": lambda name: check_rule(load_object(name)),
    "algorithm": lambda name: check_algorithm(load_object(name)),
    "sampler": lambda name: check_sampler(load_object(name)),
}
_CHECKED = """\
Finds mistakes in a part of yours, in a module or a file.py. A class is built without arguments.

  env        an environment in JAX; or one with Gymnasium's interface: a class, a function that makes it,
             or gym:ID. It is checked by Gymnasium's own checker first. Or one of `surefoot list`
  policy     the options of a policy
  baseline   a baseline
  rule       a rule
  algorithm  an algorithm: it learns small problems for a few iterations, which takes a minute
  sampler    a sampler that is built already, with its environment\
"""


def _base_problems(kind: str, name: str) -> Iterator[Problem]:
    """That the class of a part of one's own is not derived from what the command line takes."""
    if kind == "sampler" or ":" not in name or name.partition(":")[0] in parts.LIBRARIES:
        return
    plural = {"policy": "policies"}.get(kind, f"{kind}s")
    found, base = load(name), parts.KINDS[plural][1]
    if kind == "env" and parts.makes_gymnasium(found):
        return
    if not issubclass(found if inspect.isclass(found) else type(found), base):
        yield error(
            f"{name} does not derive from {base.__name__}.",
            "Training takes nothing else.",
            f"Write `class Mine({base.__name__})`, from surefoot.{plural}.",
        )


def command_check(arguments: list[str]) -> int:
    """Finds mistakes in a part of the user's own; returns the exit code."""
    usage = f"surefoot check {' | '.join(_CHECKS)} MODULE:NAME"
    if {"-h", "--help"} & set(arguments):
        print(f"{usage}\n\n{_CHECKED}")
        return 0
    if len(arguments) != 2 or arguments[0] not in _CHECKS:
        raise UserError(f"Usage: {usage}")
    problems = [*_base_problems(*arguments), *_CHECKS[arguments[0]](arguments[1])]
    for problem in problems:
        print(problem)
    print(f"{arguments[1]}: {len(problems)} problem{'s' * (len(problems) != 1)} found")
    return 2 if any(problem.severity == "error" for problem in problems) else 0
