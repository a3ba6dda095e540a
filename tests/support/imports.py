"""Which module of the library imports which, read from the source, and whether it may."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = "surefoot"
BELOW: dict[str, frozenset[str]] = {}
"""For each package, the packages it may import. A package may always import itself."""


def _allow(packages: str, *more: str) -> None:
    lower = frozenset(more).union(*(BELOW[package] | {package} for package in more))
    BELOW.update(dict.fromkeys(packages.split(), lower))


_allow("types options")
_allow("theory", "types", "options")
_allow("encoders", "types", "options")
_allow("networks", "types", "options", "encoders")
_allow("policies baselines", "theory", "networks", "encoders")
_allow("loading", "options")
_allow("statistics", "options")
_allow("envs", "theory", "loading")
_allow("reference", "envs")
_allow("rules", "policies", "baselines", "envs")
# What samplers may import is named module by module, since it is less than whole packages.
BELOW["samplers"] = frozenset({"types", "options", "policies.base", "envs.base", "envs.simulation"})
_allow("algorithms", "rules", "samplers")
_allow("checks", "algorithms")
_allow("lab", "algorithms")
_allow("experiment", "algorithms", "checks", "statistics")
_allow("report", "experiment")
_allow("reproduction", "report", "reference")
_allow("cli", "reproduction", "lab")
_allow("__main__", "cli")

Imports = Mapping[str, set[str]]
"""Each module's name and the modules of the library that it imports, all without the leading `surefoot.`."""


def read_imports(source: Path) -> dict[str, set[str]]:
    """Of every module under `source`, the folder of the package, but not of the package's own `__init__`."""
    files = {_name(path.relative_to(source)): path for path in source.rglob("*.py")}
    return {
        name: {_resolve(target, files) for target in _targets(ast.parse(path.read_text()))} - {name, ""}
        for name, path in files.items()
        if name
    }


def violations(imports: Imports) -> list[str]:
    """Imports against the direction of the arrows."""
    return sorted(
        f"{module} imports {target}"
        for module, targets in imports.items()
        for target in targets
        if not _may(_package(module), target)
    )


def find_cycle(imports: Imports) -> list[str]:
    """Modules that import one another in a ring, or nothing."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(imports.get(module, ())):
            ring = visit(target, [*path, module])
            if ring:
                return ring
        done.add(module)
        return []

    return next((ring for module in sorted(imports) if (ring := visit(module, []))), [])


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError("Relative imports hide the direction; write them in full.")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _resolve(target: str, files: Mapping[str, Path]) -> str:
    """The longest part of `target` that names a module; empty for what is not the library's."""
    first, *parts = target.split(".")
    if first != ROOT:
        return ""
    while parts and ".".join(parts) not in files:
        parts.pop()
    return ".".join(parts)


def _package(module: str) -> str:
    return module.split(".")[0]


def _may(package: str, target: str) -> bool:
    if package not in BELOW:
        return False
    return _package(target) == package or _package(target) in BELOW[package] or target in BELOW[package]
