"""Puts sections of the README into pages, where they say `<!-- README: Title of the section -->`."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.pages import Page

_README = Path(__file__).parent.parent.parent / "README.md"
_PLACE = re.compile(r"<!-- README: (.+) -->")
_LINK = re.compile(r"\]\(docs/([^)]+)\)")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The page, with the sections that it asks for. Their links lead from this page."""
    here = posixpath.dirname(page.file.src_uri)

    def section(place: re.Match[str]) -> str:
        found = re.search(
            rf"^## {re.escape(place[1])}\n(.*?)(?=^## )", _README.read_text(), re.DOTALL | re.MULTILINE
        )
        assert found, f"the README has no section {place[1]!r}"
        return _LINK.sub(lambda link: f"]({posixpath.relpath(link[1], here)})", found[1].strip())

    return _PLACE.sub(section, markdown)
