"""Pages in a real browser, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")


def shown(address: str, folder: Path, *options: str, milliseconds: int = 3000) -> str:
    """The page as the browser has it after so much of its time; its scripts have printed no error."""
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--enable-logging=stderr", f"--virtual-time-budget={milliseconds}"]
    command += [f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    return done.stdout
