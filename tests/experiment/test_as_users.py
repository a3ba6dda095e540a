"""Tests in a process like the users': types are not checked, and programs compiled with all optimisations."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("marks", ["as_users and not slow", "as_users and slow"])
def test_what_must_hold_of_the_programs_that_users_run(marks: str) -> None:
    """Resuming is bit for bit, and numeric options are traced: the tests that are marked `as_users`."""
    environment = {**os.environ, "SUREFOOT_TEST_AS_USERS": "1"}
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        environment.pop(name, None)
    beside = Path(__file__).parent.glob("test_*.py")
    files = [str(path) for path in beside if "as_users" in path.read_text("utf-8")]  # others need no import
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", marks, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout
