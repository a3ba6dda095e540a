"""Resuming is bit for bit in the programs that users run, which are compiled with all optimisations."""

import os
import re
import subprocess
import sys
from pathlib import Path


def test_optimised_programs_resume_bit_for_bit() -> None:
    """The tests that are marked `resuming`, in a process that compiles as users do."""
    environment = {**os.environ, "SUREFOOT_TEST_OPTIMISED": "1"}
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "resuming", str(Path(__file__).parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout
