from typing import Any

import pytest
from matplotlib.figure import Figure

from surefoot.report import comparing, learning


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """All that are drawn."""
    drawn: list[Figure] = []

    def figure(**options: Any) -> Figure:
        drawn.append(Figure(**options))
        return drawn[-1]

    for module in (comparing, learning):
        monkeypatch.setattr(module, "Figure", figure)
    return drawn
