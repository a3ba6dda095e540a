"""The outcome of training for programs: one JSON object, and nothing else on standard output."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from surefoot.experiment.folder import RunFolder, run_folders
from surefoot.experiment.metrics import read_metrics


@contextmanager
def stdout_reserved(*, discard: bool = False) -> Iterator[None]:
    """Sends what is printed, by environments in this process and in workers too, to standard error. With
    `discard`, what this program prints itself is dropped."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with ExitStack() as stack:
            other = stack.enter_context(Path(os.devnull).open("w")) if discard else sys.stderr
            stack.enter_context(redirect_stdout(other))
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def reserved_for_json(arguments: Sequence[str]) -> AbstractContextManager[None]:
    """`stdout_reserved` while a command with `--json` reads its arguments, which may import and make what is
    the user's own."""
    asked = "--json" in arguments and not {"-h", "--help"} & set(arguments)
    return stdout_reserved() if asked else nullcontext()


def print_outcome(out: Path, code: int) -> None:
    """Prints what training left in `out`, which ended with this exit code."""
    seeds = run_folders(out) if not (out / "config.yaml").exists() else []
    status = {0: "complete", 1: "failed"}.get(code, "interrupted")
    found: dict[str, Any] = {"folder": str(out), "status": status}
    if seeds:
        summary = _document(out / "seeds.json") or _document(out / "sweep.json")
        found |= {"runs": [_run(path) for path in seeds], "summary": summary}
    else:
        found |= _run(out)
    print(json.dumps(found))


def _run(path: Path) -> dict[str, Any]:
    folder = RunFolder.open(path)
    rows = read_metrics(folder.metrics)
    return {
        "run": str(path),
        "metrics": rows[-1] if rows else None,
        "evaluation": _document(folder.evaluation),
    }


def _document(path: Path) -> Any:
    """The JSON in a file; None where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
