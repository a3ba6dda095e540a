"""Tests in processes like the users': types are not checked, and some programs are compiled with all
optimisations."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("speed", ["slow", "not slow"])
@pytest.mark.parametrize("marks", ["optimised", "as_users and not optimised"])
def test_what_must_hold_of_the_programs_that_users_run(marks: str, speed: str) -> None:
    """Numeric options are traced, and resuming is bit for bit: the tests that are marked so."""
    environment = {**os.environ, "SUREFOOT_TEST_AS_USERS": "1"}
    if marks == "optimised":
        del environment["JAX_DISABLE_MOST_OPTIMIZATIONS"], environment["XLA_FLAGS"]
    beside = Path(__file__).parent.glob("test_*.py")
    marked = re.compile("mark.as_users|mark.optimised")  # others need no import
    files = [str(path) for path in beside if marked.search(path.read_text("utf-8"))]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", f"{marks} and {speed}", *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout
