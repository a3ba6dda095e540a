"""The field of goals in the report: paths by hand, a policy that adapts, clicks in a real browser."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from support.browser import needs_chromium, shown
from support.finished_runs import write_run
from surefoot.envs import Navigation2D
from surefoot.experiment import preset
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.run import Run
from surefoot.policies import GaussianMLP
from surefoot.report.finished import FinishedRun, group_runs
from surefoot.report.goals import GoalField, has_goal_field, make_goal_field, path_commands
from surefoot.report.html import make_report


def field_of(side: int = 2, path: str = "M0 0l1 1") -> GoalField:
    """Each path is told apart by its step and goal."""
    count = side * side
    paths = [[f"{path} {step} {goal}" for goal in range(count)] for step in range(4)]
    goals = np.array([(x, y) for y in range(side) for x in range(side)], np.float32) - 0.5
    returns = -np.arange(4.0 * count).reshape(4, count)
    return GoalField("a <label>", 0.5, goals, returns, paths)


def page_of(tmp_path: Path, *fields: GoalField) -> str:
    run = write_run(tmp_path / "run", "navigation-2d/maml-trpo", 0, [1.0, 2.0], [[1.0, 2.0]] * 2)
    return make_report(group_runs([FinishedRun.read(run)]), fields).decode()


def test_a_path_is_in_hundredths_and_y_points_down():
    path = np.array([(0.0, 0.0), (0.1, 0.05), (0.1, 0.051), (-0.2, 0.0)])
    assert path_commands(path) == "M0 0l10-5-30 5"
    assert path_commands(np.zeros((2, 2))) == "M0 0l0 0"


def test_errors_of_rounding_do_not_add_up():
    path = np.stack([np.arange(101) * 0.0149, np.zeros(101)], axis=1)
    moves = [int(x) for x in path_commands(path)[len("M0 0l") :].split(" ")[::2]]
    assert sum(moves) == 149


def test_a_policy_adapts_to_every_goal_of_the_grid(tmp_path: Path):
    base = preset("navigation-2d/maml-trpo")
    config = replace(base, env=Navigation2D(horizon=3), policy=GaussianMLP(hidden=()), episodes=2)
    run = Run(RunFolder(tmp_path), config, compiled_initial_state(config))
    field = make_goal_field(run, "a label", side=3)
    np.testing.assert_array_equal(field.goals[[0, 1, 5, 8]], [(-0.5, 0.5), (0, 0.5), (0.5, 0), (0.5, -0.5)])
    assert field.returns.shape == (4, 9)
    assert all(re.fullmatch(r"M0 0l[-\d ]+", path) for of_step in field.paths for path in of_step)
    assert len({path for of_step in field.paths for path in of_step}) > 9
    assert field.data["said"][1].startswith("Goal at x 0.00, y 0.50. Mean return: −")


def test_only_navigation_has_one(tmp_path: Path):
    names = ("navigation-2d/maml-trpo", "navigation-2d/trpo", "bandit/maml-trpo")
    assert [has_goal_field(preset(name)) for name in names] == [True, False, False]
    assert "goals-0" not in page_of(tmp_path)


def test_every_goal_is_a_button_with_a_name(tmp_path: Path):
    page = page_of(tmp_path, field_of(), field_of(3))
    assert page.count('role="button"') == 4 + 9
    assert page.count('tabindex="0" aria-pressed') == 2
    assert 'aria-label="Goal at x −0.50, y 0.50"' in page
    assert "a &lt;label&gt;" in page


def test_ten_runs_are_below_five_megabytes(tmp_path: Path):
    longest = "M0 0l" + "-10-10" * 100
    assert len(page_of(tmp_path, *[field_of(9, longest)] * 10)) < 5_000_000


SCRIPT = """<script>
const goals = [...document.querySelectorAll(".goal")];
const press = (key) =>
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
goals[0].dispatchEvent(new MouseEvent("click", { bubbles: true }));
press("ArrowLeft"); press("ArrowRight"); press("ArrowRight"); press("ArrowDown"); press("Enter");
document.querySelectorAll(".field input")[1].click();
</script></body>"""


@needs_chromium
def test_a_click_and_the_keyboard_choose_a_goal(tmp_path: Path):
    """From the first of four goals to the one at its right, and down; not over the edges."""
    page = tmp_path / "page.html"
    page.write_text(page_of(tmp_path, field_of()).replace("</body>", SCRIPT))
    dom = shown(page.as_uri(), tmp_path)
    assert re.findall(r'aria-pressed="(\w+)" aria-label', dom) == ["false", "false", "false", "true"]
    assert re.findall(r'd="M0 0l1 1 (\d) (\d)"', dom) == [(str(step), "3") for step in range(4)]
    assert re.findall(r'data-step="(\d)"[^>]*display: none', dom) == ["1"]
    assert "Goal at x 0.50, y 0.50. Mean return: −3.0 after 0 steps, −7.0 after 1 step" in dom
