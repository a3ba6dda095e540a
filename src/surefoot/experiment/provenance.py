"""Provenance of a run: versions, commit, machine, devices and command line, one entry for each training."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from surefoot.experiment.files import write_atomically

_PACKAGES = (
    *("surefoot", "jax", "jaxlib", "equinox", "optax", "numpy"),
    *("gymnasium", "gymnax", "mujoco", "ray", "tensorboardX"),
)


def record_provenance(path: Path) -> None:
    """Adds this process to the list in the file `path`, which is made if it does not exist."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        entries = []
    entries = [*(entries if isinstance(entries, list) else []), _this_process()]
    write_atomically(path, json.dumps(entries, indent=1).encode())


def _this_process() -> dict[str, Any]:
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [str(device) for device in jax.devices()],
    }


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an extra that is not installed
            continue
    return found


@cache
def _commit() -> str | None:
    """The commit of the library's source, with `+` if it was changed; None where it is no checkout of git."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        git("ls-files", "--error-unmatch", here.name)  # it may be installed in another project's folder
        return git("describe", "--always", "--abbrev=40", "--dirty=+").strip()
    except (OSError, subprocess.SubprocessError):
        return None
