import itertools
import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from support.finished_runs import write_run, write_seeds
from surefoot.experiment import Learner, preset
from surefoot.experiment.folder import RunFolder, run_folders
from surefoot.experiment.run import Run
from surefoot.experiment.serialise import load_config
from surefoot.options import UserError
from surefoot.report import finish_sweep
from surefoot.report.comparing import draw_comparison, looks
from surefoot.report.comparison import Comparison, differences_in_words
from surefoot.report.finished import FinishedRun, find_runs, group_runs
from surefoot.rules import GradientStep
from surefoot.statistics import interquartile_mean, interval

SLOW = {0: 10.0, 1: 12.0, 2: 11.0, 3: 14.0, 4: 9.0}
FAST = {seed: score + 20 + seed / 10 for seed, score in SLOW.items()}


def rule(lr: float):
    return replace(preset("recall/ppo").algorithm.rule, lr=lr)


def compare(*paths: Path, **options) -> Comparison:
    return Comparison(group_runs([FinishedRun.read(path) for path in find_runs(list(paths))]), **options)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    return write_seeds(tmp_path / "slow", "recall/ppo", SLOW, rule=rule(1e-4))


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    return write_seeds(tmp_path / "fast", "recall/ppo", FAST, rule=rule(1e-3))


def test_runs_are_grouped_by_what_differs(slow: Path, fast: Path) -> None:
    groups = compare(slow, fast).groups
    assert [group.label for group in groups] == ["rule.lr 0.0001", "rule.lr 0.001"]
    assert [group.seeds for group in groups] == [[0, 1, 2, 3, 4]] * 2
    assert differences_in_words(groups) == ["rule.lr: 0.0001, 0.001"]


def test_single_runs_are_named_one_by_one(slow: Path, fast: Path) -> None:
    """In any order, and twice at will."""
    singles = [fast / "seed003", slow / "seed001", fast / "seed000", slow / "seed004", slow]
    groups = compare(*singles).groups
    assert [sorted(group.seeds) for group in groups] == [[0, 3], [0, 1, 2, 3, 4]]
    assert groups[0].label == "rule.lr 0.001"


def test_other_seeds_in_another_folder_belong_to_the_same_group(slow: Path, tmp_path: Path) -> None:
    more = write_seeds(tmp_path / "more", "recall/ppo", {5: 10.0, 6: 11.0}, rule=rule(1e-4))
    (group,) = compare(slow, more).groups
    assert group.seeds == [0, 1, 2, 3, 4, 5, 6]


def test_the_same_seeds_in_another_folder_are_another_group(slow: Path, tmp_path: Path) -> None:
    """As before and after a change of the code."""
    again = write_seeds(tmp_path / "again", "recall/ppo", {0: 99.0, 5: 98.0}, rule=rule(1e-4))
    comparison = compare(slow, again)
    assert [group.label for group in comparison.groups] == ["slow", "again"]
    assert [group.seeds for group in comparison.groups] == [[0, 1, 2, 3, 4], [0, 5]]
    assert comparison.scores(comparison.groups[1])[:, 0].tolist() == [99, 98]


@pytest.mark.parametrize("order", [("these", "those"), ("those", "these")])
def test_folders_that_share_some_seeds_are_groups_of_their_own(
    order: tuple[str, str], tmp_path: Path
) -> None:
    """In any order, with the seeds that only one of them has."""
    seeds = {"these": range(3, 8), "those": range(5)}
    folders = {
        name: write_seeds(tmp_path / name, "recall/ppo", {seed: 1.0 + seed for seed in which})
        for name, which in seeds.items()
    }
    groups = compare(*(folders[name] for name in order)).groups
    assert [group.label for group in groups] == list(order)
    assert [group.seeds for group in groups] == [list(seeds[name]) for name in order]


def test_a_run_that_failed_is_named_as_such(slow: Path) -> None:
    metrics = slow / "seed001" / "metrics.jsonl"
    failed = {"iteration": 4, "return": 1.0, "loss": None, "steps": 400, "seconds": 1.0}
    metrics.write_text(metrics.read_text() + json.dumps(failed) + "\n")
    with pytest.raises(UserError, match=r"seed001 stopped in iteration 4, where its loss was not finite"):
        compare(slow)


def test_groups_with_many_differences_have_their_folder_s_name(slow: Path, tmp_path: Path) -> None:
    other = write_seeds(
        tmp_path / "other", "recall/ppo", FAST, rule=replace(rule(0.5), epochs=2, clip=0.1), episodes=7
    )
    groups = compare(slow, other).groups
    assert [group.label for group in groups] == ["slow", "other"]
    assert set(groups[0].differences) == {"rule.lr", "rule.epochs", "rule.clip", "episodes"}


def test_an_option_that_a_group_has_not_is_none(slow: Path, tmp_path: Path) -> None:
    trpo = write_seeds(tmp_path / "trpo", "recall/ppo", FAST, rule=preset("recall/trpo").algorithm.rule)
    groups = compare(slow, trpo).groups
    assert groups[0].differences["rule"] == "ppo-clip"
    assert groups[1].differences["rule"] == "trust-region"
    assert groups[1].differences["rule.lr"] is None


def test_the_scores_and_their_interval(slow: Path, fast: Path) -> None:
    comparison = compare(slow, fast)
    reached = comparison.reached(comparison.groups[0])
    assert reached.estimate == pytest.approx((0.75 * 10 + 11 + 0.75 * 12) / 2.5)
    assert reached == interval(np.array([[10.0], [12.0], [11.0], [14.0], [9.0]]))
    found = comparison.summary()["groups"][1]
    assert found["scores"] == pytest.approx(list(FAST.values()))
    assert found["steps"] == 300
    assert found["hours"] == pytest.approx(3 * 36 / 3600)


def test_shared_seeds_are_paired(slow: Path, fast: Path) -> None:
    """Though they are named in another order."""
    comparison = compare(slow, *(fast / f"seed{i:03d}" for i in (4, 0, 3, 2, 1)))
    against = comparison.against(comparison.groups[1])
    assert against.paired
    assert 20 <= against.difference.low < against.difference.estimate < against.difference.high <= 20.4
    assert against.improvement.estimate == 1
    assert against.verdict == "better"
    turned = compare(fast, slow)
    assert turned.against(turned.groups[1]).verdict == "worse"


def test_other_seeds_are_not_paired(slow: Path, tmp_path: Path) -> None:
    others = write_seeds(
        tmp_path / "fast", "recall/ppo", {7: 30.0, 8: 10.0, 9: 5.0, 10: 9.0, 11: 12.0}, rule=rule(1.0)
    )
    comparison = compare(slow, others)
    against = comparison.against(comparison.groups[1])
    assert not against.paired
    assert against.difference.low < 0 < against.difference.high
    assert against.verdict == "not told apart"


def test_few_seeds_are_said_to_be_too_few(slow: Path, tmp_path: Path) -> None:
    few = write_seeds(tmp_path / "few", "recall/ppo", {0: 100.0, 1: 101.0, 2: 102.0}, rule=rule(1.0))
    comparison = compare(slow, few)
    assert comparison.against(comparison.groups[1]).verdict == "too few seeds"
    (note,) = comparison.notes()
    assert "rule.lr 1 (3)" in note
    assert "rule.lr 0.0001" not in note
    assert compare(slow).notes() == []


def test_runs_of_other_lengths_are_pointed_out(slow: Path, tmp_path: Path) -> None:
    longer = write_seeds(tmp_path / "longer", "recall/ppo", SLOW, steps=200)
    assert compare(slow, longer).notes() == [
        "The runs did not sample alike: 300 to 600 steps of the environment."
    ]


def meta(folder: Path, shift: float, seeds: int = 5, **changes) -> Path:
    """Tasks are worth 0, 10 and 20, seeds 0, 1, 2 …; a step of adaptation 5 more."""
    for seed in range(seeds):
        returns = [
            [task + seed + 5.0 * step + shift * step for task in (0.0, 10.0, 20.0)] for step in range(3)
        ]
        write_run(folder / f"seed{seed:03d}", "bandit/maml-trpo", seed, [1.0, 2.0], returns, **changes)
    return folder


def test_few_tasks_are_said_to_be_too_few(tmp_path: Path) -> None:
    comparison = compare(meta(tmp_path / "a", 0.0), meta(tmp_path / "b", 1.0, inner_steps=2))
    assert comparison.against(comparison.groups[1]).verdict == "too few tasks"
    assert [note for note in comparison.notes() if "Too few held-out tasks to tell: 3." in note]
    fewer = compare(meta(tmp_path / "c", 0.0, seeds=2), meta(tmp_path / "d", 1.0, inner_steps=2))
    assert fewer.against(fewer.groups[1]).verdict == "too few seeds"


def test_adaptation_is_compared_after_its_last_step(tmp_path: Path) -> None:
    comparison = compare(meta(tmp_path / "a", 0.0), meta(tmp_path / "b", 1.0, inner_steps=2))
    assert comparison.same_tasks
    first, second = comparison.groups
    assert [one.estimate for one in comparison.adaptation(first)] == pytest.approx([12, 17, 22])
    assert comparison.reached(second).estimate == pytest.approx(24)
    against = comparison.against(second)
    # All tasks and seeds differ by 2, whatever is drawn.
    assert (against.difference.low, against.difference.high) == pytest.approx((2, 2))
    earlier = replace(comparison, step=1)
    assert earlier.reached(second).estimate == pytest.approx(18)
    assert earlier.summary()["score"] == "mean return after 1 step of adaptation"
    with pytest.raises(UserError, match="step is 3; these runs were evaluated after 0 to 2 steps"):
        replace(comparison, step=3)


def test_tasks_are_a_sample_of_the_family(tmp_path: Path) -> None:
    """The interval of three tasks so far apart is wider than that of their means."""
    comparison = compare(meta(tmp_path / "a", 0.0))
    reached = comparison.reached(comparison.groups[0])
    means = interval(comparison.scores(comparison.groups[0]).mean(axis=1, keepdims=True))
    assert reached.high - reached.low > 2 * (means.high - means.low)


def test_other_tasks_are_compared_by_their_means(tmp_path: Path) -> None:
    evaluation = replace(preset("bandit/maml-trpo").evaluation, seed=77)
    comparison = compare(meta(tmp_path / "a", 0.0), meta(tmp_path / "b", 1.0, evaluation=evaluation))
    assert not comparison.same_tasks
    assert comparison.scores(comparison.groups[0])[:, 0] == pytest.approx([20, 21, 22, 23, 24])
    assert any("on different tasks" in note for note in comparison.notes())


def test_curves_end_where_the_first_run_ends(tmp_path: Path) -> None:
    for seed, curve in enumerate([[0.0, 10.0, 20.0], [None, 20.0, 30.0], [10.0, 20.0, 30.0, 40.0]]):
        write_run(tmp_path / f"seed{seed:03d}", "recall/ppo", seed, curve, [[1.0]])
        # The last has more iterations than its configuration says, as one that was trained longer.
    text = (tmp_path / "seed002" / "config.yaml").read_text().replace("iterations: 4", "iterations: 3")
    (tmp_path / "seed002" / "config.yaml").write_text(text)
    comparison = compare(tmp_path)
    curve = comparison.curve(comparison.groups[0], "return")
    assert curve is not None
    assert (curve.steps[0], curve.steps[-1]) == (200, 300)
    assert curve.estimate[0] == pytest.approx(interquartile_mean(np.array([[10.0], [20.0], [20.0]])))
    assert np.all(curve.low <= curve.estimate)
    assert np.all(curve.estimate <= curve.high)
    assert comparison.curve(comparison.groups[0], "return_after") is None


@pytest.mark.parametrize("steps", [100, None])
def test_pictures_are_drawn(steps: int | None, tmp_path: Path) -> None:
    one = write_seeds(tmp_path / "one", "recall/ppo", SLOW, steps=steps)
    two = write_seeds(tmp_path / "two", "recall/ppo", FAST, steps=steps, rule=rule(0.1))
    pictures = draw_comparison(compare(one, two))
    assert pictures["png"].startswith(b"\x89PNG")
    text = pictures["svg"].decode()
    assert "<svg" in text
    assert pictures == draw_comparison(compare(one, two))
    adapting = draw_comparison(
        compare(meta(tmp_path / "a", 0.0, steps=steps), meta(tmp_path / "b", 1.0, tasks=7))
    )
    assert adapting["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("settings", [2, 4, 12])
def test_the_names_below_the_points_differ_and_do_not_overlap(
    settings: int, tmp_path: Path, figures: list[Figure]
) -> None:
    """Those of a sweep over two options, whose first 22 letters are the same."""
    discounts = [0.5 + i / 100 for i in range(settings // 2)]
    for lr, discount in itertools.product((0.001, 0.01), discounts):
        changed = replace(preset("recall/ppo").estimation, discount=discount)
        folder = tmp_path / f"{lr}-{discount}"
        write_seeds(folder, "recall/ppo", SLOW, rule=rule(lr), estimation=changed)
    comparison = compare(*sorted(tmp_path.iterdir()))
    draw_comparison(comparison)
    names = figures[0].axes[1].get_xticklabels()
    assert [name.get_text().replace("\n", " ") for name in names] == [x.label for x in comparison.groups]
    boxes = [name.get_window_extent() for name in names]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_curves_of_one_point_have_a_marker(tmp_path: Path, figures: list[Figure]) -> None:
    for seed in range(2):
        folder = tmp_path / f"seed{seed:03d}"
        write_run(folder, "bandit/maml-trpo", seed, [3.0 + seed], [[1.0, 2.0]] * 2)
    draw_comparison(compare(tmp_path))
    marked = [line.get_marker() for line in figures[0].axes[0].lines if len(line.get_xdata())]
    assert marked == ["o", "o"], "after adaptation, and before it"


def test_every_group_looks_different() -> None:
    seen = [tuple(look.values()) for look in looks(30)]
    assert len(set(seen)) == 30


def test_what_cannot_be_compared(slow: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "alone", "recall/ppo", 0, [1.0], [[1.0]])
    with pytest.raises(UserError, match=r"one seed, .*alone: train more"):
        compare(slow, tmp_path / "alone")
    other = write_seeds(tmp_path / "bandit", "bandit/trpo", SLOW)
    with pytest.raises(
        UserError, match=r"different environments .*slow.* has env recall and .* has env bandit"
    ):
        compare(slow, other)
    longer = replace(preset("recall/ppo").env, delay=7)
    with pytest.raises(UserError, match=r"different environments .* env.delay \d+ and .* env.delay 7"):
        compare(slow, write_seeds(tmp_path / "longer", "recall/ppo", SLOW, env=longer))
    near, nearer = (replace(preset("navigation-2d").env, goal_range=0.5 + x) for x in (0.0, 1e-9))
    alike = [
        write_seeds(tmp_path / name, "navigation-2d/maml-trpo", SLOW, env=env)
        for name, env in {"near": near, "nearer": nearer}.items()
    ]
    with pytest.raises(UserError, match=r"near/.* env.goal.range 0\.5 and .*nearer/.* env.goal.range 0\.5"):
        compare(*alike)
    with pytest.raises(UserError, match=r"adapts to held-out tasks and .* learns one task"):
        compare(write_seeds(tmp_path / "trpo", "bandit/trpo", SLOW), meta(tmp_path / "meta", 0.0))
    with pytest.raises(UserError, match="There is no run at"):
        compare(slow, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("evaluation.json", "{", "is damaged: it holds no returns"),
        ("evaluation.json", json.dumps({"iteration": 3, "returns": []}), "is damaged"),
        ("evaluation.json", json.dumps({"iteration": 3, "returns": [{"tasks": [None]}]}), "is damaged"),
        (
            "evaluation.json",
            json.dumps({"iteration": 2, "returns": [{"tasks": [1.0]}]}),
            "at iteration 3 and was",
        ),
        ("evaluation.json", None, "has not been evaluated"),
        ("metrics.jsonl", "", "has no metrics"),
        ("metrics.jsonl", "nonsense\n{}\n", "is damaged: its line 1"),
        ("config.yaml", "surefoot_config: 3\n", "config.yaml"),
    ],
)
def test_a_damaged_run_is_named(slow: Path, file: str, content: str | None, message: str) -> None:
    path = slow / "seed002" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        compare(slow)
    assert "seed002" in str(error.value)


def test_the_best_setting_of_a_sweep_is_the_one_that_none_is_better_than(tmp_path: Path) -> None:
    """Over seeds and tasks together, as the verdicts are: here one setting has a higher mean on each task's
    outliers alone."""
    for lr, scores in ((0.1, [2.0] * 36 + [120.0] * 4), (0.2, [12.0] * 40)):
        for seed in range(5):
            folder = tmp_path / f"outer.lr={lr}" / f"seed{seed:03d}"
            outer = GradientStep(lr=lr)
            noisy = [score + seed / 10 for score in scores]
            write_run(folder, "navigation-2d/reptile", seed, [0.0], [noisy, noisy], outer=outer)
    configs = {path: load_config(path / "config.yaml") for path in run_folders(tmp_path)}
    state = replace(Learner(next(iter(configs.values()))).state, iteration=jnp.asarray(1))
    runs = [Run(RunFolder(path), config, state) for path, config in configs.items()]
    summary = finish_sweep(runs, tmp_path)
    verdicts = {row["label"]: row["verdict"] for row in summary["settings"]}
    assert verdicts == {"outer.lr 0.1": "worse", "outer.lr 0.2": "best"}
    assert summary["best"] == "outer.lr 0.2"
    assert [round(row["iqm"], 1) for row in summary["settings"]] == [2.2, 12.2]
    assert summary["statistic"] == "interquartile mean over seeds and tasks"
    fewer = finish_sweep(
        [run for run in runs if "0.2" in str(run.folder.path) or run.config.seed == 0], tmp_path
    )
    assert fewer["statistic"] == "interquartile mean over seeds", "one setting alone has an interval"
    assert [row["ci95"] is None for row in fewer["settings"]] == [True, False]
