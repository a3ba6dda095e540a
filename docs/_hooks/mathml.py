"""Turns formulas into MathML while the site is built: reading it needs no script and no other host."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_FUNCTION = re.compile(r"(</\w+>)?<mi>(log|exp)</mi>(?=(<mo|<mrow><mo)?)")


def on_page_content(content: str, **_: Any) -> str:
    """The page, with every formula that `pymdownx.arithmatex` found in it as MathML."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    formula = html.unescape(found[3]).strip()
    block = found[2] == "["
    if block:  # within brackets and tables too, where latex2mathml would set the limits at the side
        formula = re.sub(r"\\(sum|prod|max|min)(?=_)", r"\\\1\\limits", formula)
    mathml = convert(formula, display="block" if block else "inline")
    if "\\" in mathml:
        raise ValueError(f"latex2mathml does not know a command in: {formula}")
    return _FUNCTION.sub(_spaced, mathml)


def _spaced(found: re.Match[str]) -> str:
    """A function's name, a thin space away from what is before it and, if not in brackets, after it."""
    before, name, bracket = found.groups(default="")
    left, right = ("0.167em" if x else "0" for x in (before, not bracket))
    return f'{before}<mo form="prefix" lspace="{left}" rspace="{right}">{name}</mo>'
