from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from surefoot.experiment import Evaluation
from surefoot.experiment.evaluation import EvaluationResult
from surefoot.report import draw_learning, draw_seeds
from surefoot.statistics import interval


def result(returns: list[float]) -> EvaluationResult:
    """One task, an episode of one step for each return."""
    options = Evaluation(tasks=1, episodes=len(returns), steps=0)
    return EvaluationResult("probe/ppo", 3, options, np.array([[returns]]), jnp.zeros((1, 0)), ())


def history(*returns: float | None, steps: int = 10) -> list[dict[str, Any]]:
    return [{"iteration": i, "return": r, "steps": i * steps} for i, r in enumerate(returns, 1)]


def is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG") and len(content) > 1000


@pytest.mark.parametrize("returns", [[1.0], [2.0, 2.0, 2.0], [float(x) for x in range(100)]])
def test_learning_is_drawn_for_any_number_of_episodes(returns: list[float]) -> None:
    assert is_png(draw_learning(result(returns), history(1.0, 2.0, 3.0)))


@pytest.mark.parametrize("returns", [(None, None, 3.0), (None, None), (1.0,), ()])
def test_no_episode_may_have_ended_yet(returns: tuple[float | None, ...]) -> None:
    """The return is unknown then, and null in the metrics."""
    assert is_png(draw_learning(result([1.0]), history(*returns)))


def test_metrics_without_a_count_of_steps_are_drawn_by_iteration() -> None:
    rows = [{"iteration": 1, "return": 1.0}, {"iteration": 2, "return": 2.0}]
    assert is_png(draw_learning(result([1.0]), rows))
    assert is_png(draw_seeds("two", [0, 1], np.array([[1.0], [2.0]]), [rows, history(1.0, 2.0)]))


@pytest.mark.parametrize(
    "histories",
    [
        [history(1.0, 2.0)],
        [history(None, 2.0), history(1.0, None)],
        [history(None, 2.0), history(None, 3.0)],
        [history(None, None), history(None, None)],
        [history(1.0, 2.0), history(1.0)],  # one of them failed
        [history(1.0, 2.0), history(1.0, 2.0, steps=7)],
    ],
)
def test_seeds_are_drawn_whatever_is_known_of_them(histories: list[list[dict[str, Any]]]) -> None:
    seeds = list(range(7, 7 + len(histories)))
    assert is_png(draw_seeds("probe/ppo", seeds, np.arange(len(seeds), dtype=float)[:, None], histories))


@pytest.mark.parametrize("means", [(7.0, 9.0), (-5.0, 1.5), (1.2, 1.3)])
@pytest.mark.parametrize("history_of", [(1.0, 2.0), (None, None)])
def test_both_panels_show_every_final_mean_on_one_scale(
    means: tuple[float, float], history_of: tuple[float | None, ...], figures: list[Figure]
) -> None:
    draw_seeds("a", [0, 1], np.array(means)[:, None], [history(*history_of)] * 2)
    curve, end = figures[0].axes
    low, high = end.get_ylim()
    known = [x for x in (*means, *history_of) if x is not None]
    assert low < min(known) <= max(known) < high
    assert curve.get_ylim() == (low, high)


def test_markers_at_the_edge_of_both_panels_are_whole(figures: list[Figure]) -> None:
    """The best seed is at the top of the end, which is a small part of what the curve shows."""
    draw_seeds("a", [0, 1, 2], np.array([[499.0], [499.5], [500.0]]), [history(20.0, 470.0)] * 3)
    end = figures[0].axes[1]
    _, edge = end.transData.transform((0, 500.0))
    assert end.bbox.y1 - edge > end.lines[0].get_markersize() / 2 * figures[0].dpi / 72


@pytest.mark.parametrize("returns", [(1.0,), (None, None, 1.0)])
def test_one_iteration_is_drawn_as_a_point(returns: tuple[float | None, ...], figures: list[Figure]) -> None:
    draw_learning(result([1.0]), history(*returns))
    draw_seeds("a", [0, 1], np.array([[1.0], [2.0]]), [history(*returns)] * 2)
    draw_learning(result([1.0]), history(1.0, 2.0, 3.0))
    marked = [{line.get_marker() for line in figure.axes[0].lines} for figure in figures]
    assert marked == [{"o"}, {"o"}, {"None"}]


@pytest.mark.parametrize("means", [(1.0, 2.0, 4.0), (2.0,)])
def test_the_interval_of_the_interquartile_mean_is_a_band(
    means: tuple[float, ...], figures: list[Figure]
) -> None:
    scores = np.array(means)[:, None]
    draw_seeds("a", list(range(len(means))), scores, [history(1.0, 2.0)] * len(means))
    bands = [(band.get_y(), band.get_y() + band.get_height()) for band in figures[0].axes[1].patches]
    expected = [] if len(means) == 1 else [interval(scores)]
    assert bands == [pytest.approx((one.low, one.high)) for one in expected]


def test_the_seed_stands_beside_each_line(figures: list[Figure]) -> None:
    """At its end, with the last return that is known."""
    histories = [history(1.0, 2.0), history(3.0, 4.0, None)]
    draw_seeds("a", [7, 23], np.array([[1.0], [2.0]]), histories)
    beside = {text.get_text().strip(): text.xy for text in figures[0].axes[0].texts}
    assert beside == {"7": (20, 2), "23": (20, 4)}


def test_seeds_of_lines_that_end_together_stand_one_above_the_other(figures: list[Figure]) -> None:
    draw_seeds("a", [0, 1, 2], np.array([[1.0], [2.0], [2.0]]), [history(1.0, 2.0)] * 3)
    heights = [text.xyann[1] for text in figures[0].axes[0].texts]
    assert np.all(np.diff(heights) > 0)
    assert np.mean(heights) == pytest.approx(2)


def test_seeds_that_adapt_are_drawn_before_and_after_each_step(figures: list[Figure]) -> None:
    rows = [
        {"iteration": i, "steps": 10 * i, "return": 2.0 * i, "return_before": -i, "return_after": 2.0 * i}
        for i in (1, 2)
    ]
    returns = np.array([[0.0, 5.0, 6.0], [1.0, 6.0, 7.0], [2.0, 8.0, 8.0]])
    draw_seeds("a", [0, 1, 2], returns, [rows] * 3)
    curve, end = figures[0].axes
    assert {text.get_text() for text in curve.get_legend().get_texts()} == {
        "before adaptation, mean over seeds",
        "after adaptation, mean over seeds",
    }
    (bars,) = end.containers
    middle = bars.lines[0].get_ydata()
    np.testing.assert_allclose(middle, [1, 37 / 6, 7])
    assert {text.get_text().strip() for text in end.texts} == {"0", "1", "2"}
    assert [text.get_text() for text in end.get_legend().get_texts()] == ["interquartile mean, 95% interval"]


def test_the_picture_depends_on_what_is_drawn() -> None:
    means = np.array([[1.0], [2.0]])
    some = draw_seeds("a", [0, 1], means, [history(1.0, 2.0), history(2.0, 3.0)])
    assert some == draw_seeds("a", [0, 1], means, [history(1.0, 2.0), history(2.0, 3.0)])
    assert some != draw_seeds("a", [0, 1], means, [history(1.0, 2.0), history(2.0, 4.0)])
    assert some != draw_seeds("a", [0, 1], 2 * means, [history(1.0, 2.0), history(2.0, 3.0)])
