"""The field of goals of 2-D navigation: for each goal of a grid, the paths of the policy as it adapts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from surefoot.algorithms import episode_returns
from surefoot.envs import Navigation2D
from surefoot.experiment import Config, Run
from surefoot.experiment.evaluation import adapt, evaluation_keys
from surefoot.report.adaptation import episode_path
from surefoot.report.page_parts import key
from surefoot.samplers import InProcess

SIDE = 9
"""Goals on a side of the grid."""
STEPS = 3
"""Steps of adaptation that are shown."""
_SCALE = 100
"""Units of the drawing for one unit of position."""
_MARGIN = 1.4
"""Half-width of the drawing, of that of the square of goals."""
_COLOURS = ("--quiet", "--series-3", "--series-1", "--series-2")
"""Names of colours in the page's style: that before adaptation, and one for each step of it."""
_DASHES = ([1, 2], [6, 2], [3, 1.5], None)


@dataclass(frozen=True)
class GoalField:
    """The adaptation of one run's policy to a grid of goals, row by row from the upper left."""

    label: str
    reach: float
    """Half-width of the square of goals."""
    goals: Float[np.ndarray, "goal 2"]
    returns: Float[np.ndarray, "step goal"]
    """Mean returns before adaptation and after each step of it."""
    paths: list[list[str]]
    """`[step][goal]`: the first episode's path, as the drawing's commands."""

    @property
    def data(self) -> dict[str, Any]:
        """The data of the page for each goal: its paths `[goal][step]`, and a sentence about it."""
        paths = [list(of_goal) for of_goal in zip(*self.paths, strict=True)]
        said = [
            f"{_named(goal)}. Mean return: "
            + ", ".join(f"{_number(value, 1)} after {_steps(k)}" for k, value in enumerate(returns))
            + "."
            for goal, returns in zip(self.goals.tolist(), self.returns.T.tolist(), strict=True)
        ]
        return {"side": round(len(self.goals) ** 0.5), "paths": paths, "said": said}


def has_goal_field(config: Config) -> bool:
    """Whether a run of this configuration adapts to goals that it does not observe."""
    return config.algorithm.adapts and isinstance(config.env, Navigation2D)


def make_goal_field(run: Run, label: str, side: int = SIDE) -> GoalField:
    """Adapts a run's policy to `side` × `side` goals, with the episodes that it was trained with."""
    env: Any = run.config.env
    ticks = np.linspace(-env.goal_range, env.goal_range, side)
    goals = np.array([(x, y) for y in ticks[::-1] for x in ticks], np.float32)
    config = replace(run.config, sampler=InProcess())
    _, key = evaluation_keys(config.evaluation.seed)
    _, adaptation = adapt(config, run.state.learner, jnp.asarray(goals), key, steps=STEPS)
    returns = [np.asarray(episode_returns(rollout)).mean(axis=-1) for rollout in adaptation.rollouts]
    paths = [
        [path_commands(episode_path(rollout, goal)) for goal in range(len(goals))]
        for rollout in jax.tree.map(np.asarray, adaptation.rollouts)
    ]
    return GoalField(label, env.goal_range, goals, np.stack(returns), paths)


def path_commands(path: Float[np.ndarray, "time 2"]) -> str:
    """A path as the commands of an SVG, in whole hundredths; y points down there. Positions are rounded, not
    steps, so that errors do not add up."""
    points = np.rint(path * (_SCALE, -_SCALE)).astype(int)
    moves = " ".join(f"{x} {y}" for x, y in np.diff(points, axis=0) if x or y)
    return f"M{points[0, 0]} {points[0, 1]}l{moves or '0 0'}".replace(" -", "-")


def goals_section(fields: Sequence[GoalField]) -> str:
    """The fields, each with a button for every goal and a line for every step."""
    help_ = (
        "<p>The policy does not observe the goal: it adapts to it on episodes. Choose a goal to see the path "
        "of an episode before adaptation (0) and after each step of it.</p>"
        '<p class="quiet" id="goals-help">Click a goal; or with the keyboard: arrows move, Enter chooses.</p>'
    )
    return help_ + "".join(_drawn(field, f"goals-{i}") for i, field in enumerate(fields))


def _drawn(field: GoalField, identifier: str) -> str:
    half = round(_SCALE * _MARGIN * field.reach)
    radius = max(1.0, half / 45)
    buttons = "".join(
        f'<circle class="goal" role="button" tabindex="{-1 if i else 0}" aria-pressed="false" '
        f'aria-label="{_named((x, y))}" cx="{_SCALE * x:.1f}" cy="{-_SCALE * y:.1f}" r="{radius:.1f}"/>'
        for i, (x, y) in enumerate(field.goals.tolist())
    )
    looks = list(zip(_COLOURS, _DASHES, strict=True))[: len(field.paths)]
    lines = "".join(
        f'<path class="way" data-step="{k}" fill="none" style="stroke:var({colour})" '
        f'stroke-dasharray="{" ".join(map(str, dash or ["none"]))}"/>'
        for k, (colour, dash) in enumerate(looks)
    )
    switches = "".join(
        f'<label><input type="checkbox" checked data-step="{k}"> '
        f"{key({'colour': colour, 'dash': dash}, _steps(k))}</label>"
        for k, (colour, dash) in enumerate(looks)
    )
    return (
        f'<h3>{escape(field.label)}</h3><div class="field" id="{identifier}">'
        f'<div class="controls" role="group" aria-label="Paths that are shown">{switches}</div>'
        f'<svg role="group" aria-label="Goals of {escape(field.label)}" aria-describedby="goals-help" '
        f'viewBox="{-half} {-half} {2 * half} {2 * half}">{buttons}{lines}'
        f'<rect class="start" x="-1" y="-1" width="2" height="2"/>'
        f'<circle class="chosen" r="{2 * radius:.1f}"/></svg>'
        f'<p aria-live="polite" class="said"></p></div>'
    )


def _named(goal: Any) -> str:
    return f"Goal at x {_number(goal[0], 2)}, y {_number(goal[1], 2)}"


def _number(value: float, digits: int) -> str:
    """With a minus sign, which screen readers say."""
    return f"{value:.{digits}f}".replace("-", "−")


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
