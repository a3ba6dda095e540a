"""The notebooks that the documentation makes of the examples."""

import runpy
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

HOOK = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "_hooks" / "notebooks.py"))
EXAMPLES: list[Path] = HOOK["EXAMPLES"]
SMALL = {
    "08_learning_rates": "iterations=2, rates=3",
    "11_optuna": "iterations=2, rounds=2, batch=3",
}


def notebook_of(path: Path, arguments: str = "") -> Any:
    return nbformat.reads(HOOK["notebook_of"](path, arguments), as_version=4)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_notebook_has_all_of_the_example(path: Path) -> None:
    notebook = notebook_of(path)
    nbformat.validate(notebook)
    text, code, call = notebook.cells
    docstring, _, rest = path.read_text("utf-8").removeprefix('"""').partition('"""\n')
    assert text.source == docstring.strip()
    assert code.source == rest.partition('\n\nif __name__ == "__main__":')[0].strip()
    assert call.source == "main()"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_shows_its_figure(path: Path, tmp_path: Path) -> None:
    notebook = notebook_of(path, SMALL.get(path.stem, "iterations=2"))
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = notebook.cells[-1].outputs
    assert "return" in "".join(output.text for output in outputs if output.output_type == "stream")
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(shown) == (path.stem != "11_optuna")
