"""The picture of a sweep."""

import itertools
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surefoot.cli.sweep import random_settings
from surefoot.report.sweep import draw_sweep


def drawn(options: list[dict[str, Any]], figures: list[Figure]) -> Figure:
    """The picture of settings with these options, of two seeds each."""
    rows = [
        {
            "label": ", ".join(f"{name} {value}" for name, value in one.items()),
            "options": one,
            "returns": [i - 1.0, i + 1.0],
            "iqm": float(i),
            "ci95": [i - 1.0, i + 1.0],
        }
        for i, one in enumerate(options)
    ]
    draw_sweep({"preset": "cartpole/ppo", "statistic": "interquartile mean over seeds", "settings": rows})
    return figures[-1]


def middles(axes: Axes) -> list[Any]:
    """The lines through the interquartile means."""
    return [bars.lines[0] for bars in axes.containers]


def combined(**options: tuple[Any, ...]) -> list[dict[str, Any]]:
    """All combinations of the values."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def test_random_settings_are_points_against_each_option(figures: list[Figure]) -> None:
    sweeps = {"rule.lr": ["1e-5..1e-2"], "rule.clip": ["0.1..0.3"]}
    found = [dict(zip(sweeps, map(float, values), strict=True)) for values in random_settings(sweeps, 20, 0)]
    figure = drawn(found, figures)
    assert [axes.get_xlabel() for axes in figure.axes] == ["rule.lr", "rule.clip"]
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear"]
    assert not figure.legends
    for axes, name in zip(figure.axes, sweeps, strict=True):
        (line,) = middles(axes)
        assert line.get_linestyle() == "None"
        assert sorted(line.get_xdata()) == sorted(one[name] for one in found)


def test_parts_of_random_settings_have_a_colour_each(figures: list[Figure]) -> None:
    found = [
        {"policy": "ab"[i % 2], "lr": i / 8, "steps": 9 - i, "clip": i * i / 64, "kl": 2.0**i}
        for i in range(8)
    ]
    figure = drawn(found, figures)
    assert [axes.get_xlabel() for axes in figure.axes] == ["lr", "steps", "clip", "kl"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["policy a", "policy b"]
    for axes in figure.axes:
        assert [line.get_linestyle() for line in middles(axes)] == ["None", "None"]
        assert len({line.get_color() for line in middles(axes)}) == 2


def test_combinations_are_lines(figures: list[Figure]) -> None:
    figure = drawn(combined(lr=(0.1, 0.01, 0.001), clip=(0.1, 0.2)), figures)
    (axes,) = figure.axes
    assert [list(line.get_xdata()) for line in middles(axes)] == [[0.001, 0.01, 0.1]] * 2
    assert [line.get_linestyle() for line in middles(axes)] == ["-", "-"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["clip 0.1", "clip 0.2"]


def test_a_legend_names_a_few_lines(figures: list[Figure]) -> None:
    figure = drawn(combined(lr=(0.1, 0.2, 0.3, 0.4, 0.5), clip=(1, 2, 3, 4), kl=(1, 2, 3, 4)), figures)
    assert not figure.legends
    assert [axes.get_xlabel() for axes in figure.axes] == ["lr", "clip", "kl"]


def test_points_of_many_parts_have_one_colour(figures: list[Figure]) -> None:
    figure = drawn([{"policy": str(i), "lr": i / 8} for i in range(9)], figures)
    assert not figure.legends
    assert len(middles(figure.axes[0])) == 1


@pytest.mark.parametrize("rules", [("ppo-clip",), ("ppo-clip", "natural-gradient", "trust-region")])
def test_parts_are_not_joined_by_a_line(rules: tuple[str, ...], figures: list[Figure]) -> None:
    (axes,) = drawn(combined(rule=rules), figures).axes
    assert [line.get_linestyle() for line in middles(axes)] == ["None"]
    assert [text.get_text() for text in axes.get_xticklabels()] == [f"rule {rule}" for rule in rules]
