"""Writes the tables of `algorithms.md` from what the library exports, so that a new method appears by itself.

Every algorithm, rule and baseline is listed with its presets, with the functions of the theory that its code
calls, with the papers that its docstrings cite and with its tests.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.algorithms.gradient_adapter import GradientAdapter
from surefoot.experiment.parts import parts
from surefoot.experiment.presets import PRESETS
from surefoot.rules import AbstractRule
from surefoot.theory.advantages import explained_variance
from surefoot.theory.divergences import mean_entropy
from surefoot.theory.objectives import PolicyObjective

if TYPE_CHECKING:  # the tests read the tables without MkDocs
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
OPTIONS = {"algorithms": "--algorithm", "rules": "--rule", "baselines": "--estimation.baseline"}
"""The option of `surefoot train` that chooses a part of each kind."""

_METRICS = (explained_variance, mean_entropy)
"""Formulas that are reported in every run, and belong to no method."""
_CITATION = re.compile(
    r"([A-Z][\w-]+)((?:, [A-Z][\w-]+)* & [A-Z][\w-]+| et al\.)?,? \(?((?:19|20)\d\d)[a-z]?\b"
)
_READING = re.compile(r"^- (.+?) \((\d{4})\)\. \*(.+?)\*(.*)$")
_MATHEMATICS = re.compile("[α-ωΓΔΣΠ∇√‖·−]")


@dataclass(frozen=True)
class Entry:
    """An exported algorithm, rule or baseline, with all that belongs to it."""

    kind: str
    name: str
    cls: type
    presets: tuple[str, ...]
    formulas: tuple[Any, ...]
    """Functions and classes of `surefoot.theory` whose docstring has a formula."""
    papers: tuple[str, ...]
    """Author and year, with a link where a chapter's reading list has the paper."""
    tests: tuple[str, ...]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages, with the tables in `algorithms.md`."""
    del config
    page = files.get_file_from_path("algorithms.md")
    assert page is not None
    page.content_string = filled(page.content_string)
    return files


def filled(page: str) -> str:
    """The page's text with its tables: `<!-- methods -->`, and `<!-- algorithms -->` and so on by kind."""
    listed = entries()
    page = page.replace("<!-- methods -->", "\n".join(_methods(listed)))
    for kind in OPTIONS:
        text = "\n".join(line for entry in listed if entry.kind == kind for line in _section(entry))
        page = page.replace(f"<!-- {kind} -->", text)
    return page


def entries() -> list[Entry]:
    """One entry for each exported algorithm, rule and baseline."""
    return [_entry(kind, name, cls) for kind in OPTIONS for name, cls in parts(kind).items()]


def _entry(kind: str, name: str, cls: type) -> Entry:
    presets = tuple(key for key, config in PRESETS.items() if any(type(x) is cls for x in _parts_of(config)))
    formulas = tuple(_formulas(cls))
    return Entry(kind, name, cls, presets, formulas, tuple(_papers(cls, formulas)), tuple(_tests(cls)))


def _parts_of(options: Any) -> Iterator[Any]:
    """Dataclasses inside a configuration, itself included."""
    if is_dataclass(options):
        yield options
        for field in fields(options):
            yield from _parts_of(getattr(options, field.name))


def _formulas(cls: type) -> Iterator[Any]:
    """The theory that a class calls, directly or through classes and functions of its own package."""
    package = ".".join(cls.__module__.split(".")[:2])
    definitions, known = [cls], set[int]()
    for definition in definitions:
        for value in _named_in(definition):
            # What adapts in evaluation alone is no part of the method.
            evaluation_alone = value is GradientAdapter and getattr(cls, "adapts", True) is False
            if id(value) in known or evaluation_alone:
                continue
            known.add(id(value))
            module = getattr(value, "__module__", None) or ""
            if module.startswith("surefoot.theory."):
                if not (inspect.isabstract(value) or value in _METRICS) and _MATHEMATICS.search(
                    _summary(value)
                ):
                    yield value
            elif module.startswith(package):
                definitions.append(value)


def _named_in(definition: Any) -> Iterator[Any]:
    """What the names in a definition's code stand for, its annotations left out."""
    names = vars(sys.modules[definition.__module__])
    for node in _code(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(definition))))):
        value = names.get(node.id) if isinstance(node, ast.Name) else None
        yield from (x for x in (value.values() if isinstance(value, dict) else [value]) if callable(x))
        # An objective that is derived from the one a rule is given: `objective.clipped(…)`.
        method = getattr(PolicyObjective, node.attr, None) if isinstance(node, ast.Attribute) else None
        if "Objective" in str(getattr(method, "__annotations__", {}).get("return")):
            yield from _named_in(method)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in ("annotation", "returns"):
                yield from _code(child)


def _papers(cls: type, formulas: tuple[Any, ...]) -> Iterator[str]:
    """Papers cited by the class, by its module or, where neither cites any, by its formulas."""
    chapters = [x.__module__.split(".")[-1] for x in formulas]
    own = [cls.__doc__ or "", sys.modules[cls.__module__].__doc__ or ""]
    for texts in (own, [x.__doc__ or "" for x in formulas]):
        cited = dict.fromkeys(match.groups() for text in texts for match in _CITATION.finditer(text))
        for author, others, year in cited:
            label = f"{author}{others or ''} ({year})"
            link = _reading(author, year, chapters)
            yield f'[{label}]({link[1]} "{link[0]}")' if link else label
        if cited:
            return


def _reading(author: str, year: str, chapters: list[str]) -> tuple[str, str] | None:
    """Title and address of a paper in the reading lists, those of `chapters` first."""
    pages = sorted((DOCS / "theory").glob("*.md"), key=lambda page: (page.stem not in chapters, page.stem))
    for page in pages:
        _, _, reading = page.read_text().partition("## Reading")
        for line in re.sub(r"\n  +", " ", reading).splitlines():
            match = _READING.match(line)
            if match and match[2] == year and re.split(r", | and | et al", match[1])[0].endswith(author):
                arxiv = re.search(r"arXiv:([\w./-]*\d)", match[4])
                address = f"https://arxiv.org/abs/{arxiv[1]}" if arxiv else f"theory/{page.name}#reading"
                return match[3], address
    return None


def _tests(cls: type) -> Iterator[str]:
    """The tests of the class's module or, where they have another name, those of its package that name it."""
    *_, package, module = cls.__module__.split(".")
    own = ROOT / "tests" / package / f"test_{module}.py"
    named = re.compile(rf"\b{cls.__name__}\b")
    for path in [own] if own.is_file() else sorted((ROOT / "tests" / package).glob("test_*.py")):
        if path == own or named.search(path.read_text()):
            yield path.relative_to(ROOT).as_posix()


def _methods(listed: list[Entry]) -> Iterator[str]:
    """A table of the methods that have a preset, one row for all presets ENVIRONMENT/METHOD of one name."""
    yield "| method | presets | classes | formulas | papers | tests |"
    yield "|---|---|---|---|---|---|"
    by_class = {entry.cls: entry for entry in listed}
    for method in dict.fromkeys(name.split("/")[1] for name in PRESETS):
        names = [name for name in PRESETS if name.split("/")[1] == method]
        algorithm = PRESETS[names[0]].algorithm
        rules = [x for x in _parts_of(algorithm) if isinstance(x, AbstractRule)]
        used = [by_class[type(x)] for x in (algorithm, *rules)]
        classes = [_class(entry.cls) for entry in used] + [f"`{x}`" for x in _settings(algorithm)]
        formulas = dict.fromkeys(_function(x) for entry in used for x in entry.formulas)
        papers = dict.fromkeys(x for entry in used for x in entry.papers)
        tests = dict.fromkeys(_test(x) for entry in used for x in entry.tests)
        presets = [f"`{names[0]}`"] + [f"and {len(names) - 1} more"] * (len(names) > 1)
        cells = [[f"`{method}`"], presets, classes, formulas, papers, tests]
        yield f"| {' | '.join('<br>'.join(cell) for cell in cells)} |"


def _settings(algorithm: Any) -> Iterator[str]:
    """An algorithm's choices, other than numbers, that are not its defaults."""
    for field in fields(algorithm):
        value = getattr(algorithm, field.name)
        if isinstance(value, str | bool) and value != field.default:
            yield f"{field.name}={value}"


def _section(entry: Entry) -> Iterator[str]:
    yield f"### {entry.cls.__name__}"
    yield ""
    yield _summary(entry.cls)
    yield ""
    yield f"- Class: {_class(entry.cls)}."
    choose = f"chosen with `{OPTIONS[entry.kind]} {entry.name}`"
    yield f"- Presets: {_some([f'`{x}`' for x in entry.presets]) or f'none; {choose}'}."
    if entry.formulas:
        yield "- Formulas:"
    for formula in entry.formulas:
        chapter = formula.__module__.split(".")[-1]
        link = f"[{chapter.replace('_', ' ')}](theory/{chapter}.md)"
        yield f"    - {_function(formula)} ({link}): {_summary(formula)}"
    if entry.papers:
        yield f"- Papers: {', '.join(entry.papers)}."
    yield f"- Tests: {', '.join(f'`{x}`' for x in entry.tests)}."
    yield ""


def _some(names: list[str]) -> str:
    """At most three of the names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _class(cls: type) -> str:
    return f"[`{cls.__name__}`][{cls.__module__}.{cls.__name__}]"


def _function(x: Any) -> str:
    return f"[`{x.__name__}`][{x.__module__}.{x.__name__}]"


def _test(path: str) -> str:
    """A link to the page that the site has of a test's file."""
    return f"[`{Path(path).name}`]({path.removesuffix('.py')}.md)"


def _summary(x: Any) -> str:
    """The first sentence of a docstring."""
    paragraph = " ".join((inspect.getdoc(x) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph)[0]
