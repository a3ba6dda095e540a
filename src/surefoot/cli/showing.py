"""`surefoot list` and `surefoot check`."""

import inspect

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surefoot.algorithms import MAML
from surefoot.checks import check_env, load_object
from surefoot.experiment import PRESETS, Config, parts
from surefoot.options import UserError, suggestion
from surefoot.rules import AbstractRule


def command_list(arguments: list[str]) -> int:
    """Shows presets and parts; returns the exit code."""
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
            table.add_row(name, escape(describe(item)))
        Console().print(table)
    return 0


def describe(item: Config | type) -> str:
    """One line about a preset or a part."""
    if isinstance(item, Config):
        algorithm = item.algorithm
        rules = [option for option in vars(algorithm).values() if isinstance(option, AbstractRule)]
        words = [parts.name_of(item.env), parts.name_of(algorithm), *map(parts.name_of, rules)]
        return " · ".join([*words, *([f"{algorithm.order} order"] if isinstance(algorithm, MAML) else [])])
    return (inspect.getdoc(item) or "").split("\n\n")[0].replace("\n", " ")


def command_check(arguments: list[str]) -> int:
    """Says what is wrong with a part of the user's own; returns the exit code."""
    usage = "surefoot check env MODULE:CLASS"
    if {"-h", "--help"} & set(arguments):
        print(f"{usage}\n\nWhat is wrong with an environment of yours, in a module or a file.py.")
        return 0
    if len(arguments) != 2 or arguments[0] != "env":
        raise UserError(f"Usage: {usage}")
    problems = check_env(load_object(arguments[1]))
    for problem in problems:
        print(problem)
    print(f"{arguments[1]}: {len(problems)} problem{'s' * (len(problems) != 1)} found")
    return 2 if any(problem.severity == "error" for problem in problems) else 0
