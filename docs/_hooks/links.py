"""Makes links in the built site of what pages name: a paper, or a test's file, which becomes a page."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_TEST = re.compile(r"`(tests/[\w/]+)\.py`")
_TEST_PAGE = re.compile(r"\]\((tests/[\w/]+)\.md\)")
_PAPER = re.compile(r"arXiv:(\d{4}\.\d{5}|[a-z-]+/\d{7})")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages, and one for each test that they name."""
    pages = [file.content_string for file in files.documentation_pages()]
    for name in sorted({name for page in pages for name in _TEST.findall(page) + _TEST_PAGE.findall(page)}):
        code = (Path(config.docs_dir).parent / f"{name}.py").read_text()
        content = f"---\nsearch:\n  exclude: true\n---\n# {name}.py\n\n```python\n{code}```\n"
        files.append(File.generated(config, f"{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The page, with its links."""

    def to_test(found: re.Match[str]) -> str:
        return f"[{found[0]}]({posixpath.relpath(found[1] + '.md', posixpath.dirname(page.file.src_uri))})"

    if page.file.src_uri.startswith("tests/"):
        return markdown
    return _PAPER.sub(r"[\g<0>](https://arxiv.org/abs/\1)", _TEST.sub(to_test, markdown))
