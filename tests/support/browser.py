"""Pages in a real browser, where there is one."""

import html
import json
import re
import shutil
import subprocess
from importlib.resources import files
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


def accessibility_faults(page: Path, folder: Path, *options: str) -> list[str]:
    """The serious and critical findings of axe (WCAG 2 A and AA, best practices) on the page, as the browser
    draws it: each with its rule and the element."""
    axe = (files("axe_core_python") / "axe.min.js").read_text()
    run = """
      addEventListener("load", () => setTimeout(() => axe.run().then((found) => {
        const list = found.violations.flatMap((rule) =>
          rule.nodes.map((node) => [rule.impact, rule.id, node.html.slice(0, 200)]));
        document.body.dataset.axe = JSON.stringify({rules: found.passes.length, list});
      }), 500));"""
    checked = folder / "checked.html"
    scripts = f"<script>{axe}</script><script>{run}</script></body>"
    checked.write_text(page.read_text().replace("</body>", scripts))
    dom = shown(checked.as_uri(), folder, *options, milliseconds=20_000)
    found = re.search(r'<body[^>]* data-axe="([^"]*)"', dom)
    assert found, "axe did not run"
    outcome = json.loads(html.unescape(found[1]))
    assert outcome["rules"] > 10
    return [": ".join(fault) for fault in outcome["list"] if fault[0] in ("serious", "critical")]
