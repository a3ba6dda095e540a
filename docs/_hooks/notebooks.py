"""Makes a notebook of each example that runs in one, for `examples.md` to link to."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import jupytext

if TYPE_CHECKING:  # the tests make notebooks without MkDocs
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = [
    path for path in sorted((ROOT / "examples").glob("*.py")) if "__file__" not in path.read_text("utf-8")
]
"""All but those that start themselves as another process."""


def notebook_of(path: Path, arguments: str = "") -> str:
    """The example as a notebook (nbformat 4): its docstring as text, its code, and a call of `main`."""
    source = path.read_text("utf-8")
    docstring, *statements, last = ast.parse(source).body
    assert isinstance(last, ast.If), f"{path} does not end with a call of main"
    lines = source.splitlines()
    code = lines[statements[0].lineno - 1 : statements[-1].end_lineno]
    text = ast.get_docstring(ast.Module([docstring], [])) or ""
    cells = ["# %% [markdown]", *(f"# {line}".rstrip() for line in text.splitlines())]
    cells += ["# %%", *code, "", "# %%", f"main({arguments})"]
    notebook = jupytext.reads("\n".join(cells), fmt="py:percent")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell{number}"  # the same at every build
    return jupytext.writes(notebook, fmt="ipynb")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the notebooks to the site."""
    from mkdocs.structure.files import File

    for path in EXAMPLES:
        files.append(File.generated(config, f"notebooks/{path.stem}.ipynb", content=notebook_of(path)))
    return files
