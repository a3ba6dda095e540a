"""`surefoot report`, on run folders written by hand, and in a real browser where there is one."""

import base64
import html
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from support.browser import accessibility_faults, needs_chromium, shown
from support.finished_runs import write_run, write_seeds
from surefoot import cli
from surefoot.options import UserError
from surefoot.report.comparing import COLOURS
from surefoot.report.finished import FinishedRun, find_runs, group_runs
from surefoot.report.html import make_report, page_data
from surefoot.report.page_parts import draw_tasks, key, look, pictures_section, warnings_of

GOOD = {0: 30.0, 1: 32.0, 2: 31.0, 3: 34.0, 4: 29.0}
BAD = {0: 10.0, 1: 12.0, 2: 11.0, 3: 14.0, 4: 9.0}


class Page(HTMLParser):
    """The page's headings, links to elsewhere, identifiers and data."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.sources: list[str] = []
        self.identifiers: list[str] = []
        self.inside, self.data = "", {}
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.sources += [found[name] or "" for name in ("src", "href", "poster") if name in found]
        self.identifiers += [found["id"] or ""] if "id" in found else []
        self.inside = found.get("id") or tag

    def handle_data(self, data: str) -> None:
        if self.inside == "data" and data.strip():
            self.data = json.loads(data)
        if self.inside in self.identifiers and data.strip() and self.inside not in ("data",):
            self.headings.append(data)


def page_of(*paths: Path) -> Page:
    return Page(make_report(group_runs([FinishedRun.read(path) for path in find_runs(list(paths))])))


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [
        write_seeds(tmp_path / "good", "recall/ppo", GOOD),
        write_seeds(tmp_path / "bad", "recall/ppo", BAD, entropy_bonus=0.5),
    ]


def test_nothing_is_fetched_and_everything_is_there(two: list[Path]) -> None:
    page = page_of(*two)
    assert {"Results", "Learning", "Warnings", "Configuration", "Pictures"} <= set(page.headings)
    assert "Adaptation" not in page.headings
    assert all(source.startswith(("#", "data:")) for source in page.sources)
    assert {source[1:] for source in page.sources if source.startswith("#")} <= set(page.identifiers)
    assert len(set(page.identifiers)) == len(page.identifiers)


def test_the_curves_are_the_comparison_s(two: list[Path]) -> None:
    """A line with an interval for each group; every metric of each run."""
    data = page_of(*two).data
    assert [(line["label"], line["y"][-1]) for line in data["curves"]] == [
        ("entropy-bonus 0", pytest.approx((0.75 * 30 + 31 + 0.75 * 32) / 2.5)),
        ("entropy-bonus 0.5", pytest.approx((0.75 * 10 + 11 + 0.75 * 12) / 2.5)),
    ]
    assert data["curves"][0]["low"][-1] <= 30 <= 32 <= data["curves"][0]["high"][-1]
    assert len(data["runs"]) == 10
    assert data["runs"][0]["metrics"]["return"] == {"x": [200, 300], "y": [15, 30]}


def test_single_runs_are_reported_without_intervals(tmp_path: Path) -> None:
    write_run(tmp_path / "one", "recall/ppo", 4, [1.0, 2.0], [[1.0]])
    (line,) = page_of(tmp_path / "one").data["curves"]
    assert (line["y"], "low" in line) == ([1, 2], False)


def test_adaptation_is_drawn_by_task(tmp_path: Path) -> None:
    for seed in range(2):
        returns = [[task + step + 2.0 * seed for task in (0.0, 10.0, 20.0)] for step in range(2)]
        write_run(tmp_path / f"seed{seed:03d}", "bandit/maml-trpo", seed, [1.0, 2.0], returns)
    assert "Adaptation" in page_of(tmp_path).headings
    svg = draw_tasks(np.array([5.0, 1.0]), np.array([[6.0, 9.0], [8.0, 9.5]]), look(0), "a<b")
    tips = re.findall(r"<title>(.*?)</title>", svg)
    assert tips == [
        "task 0: 5.00 before, 7.00 after (6.00 to 8.00 over 2 seeds)",
        "task 1: 1.00 before, 9.25 after (9.00 to 9.50 over 2 seeds)",
    ]
    assert "a&lt;b" in svg
    assert "a<b" not in svg


def test_what_users_write_does_not_end_the_script(tmp_path: Path) -> None:
    folder = tmp_path / "<b>&"
    write_run(folder, "recall/ppo", 0, [1.0], [[1.0]])
    content = make_report(group_runs([FinishedRun.read(folder)])).decode()
    assert "<b>&" not in content.replace(json.dumps("<b>&, seed 0"), "")
    assert Page(content.encode()).data["runs"][0]["label"] == "<b>&, seed 0"


def test_warnings_are_what_the_metrics_show(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "recall/ppo", 0, [None, 1.0, 1.0, 1.0], [[1.0]])
    path = tmp_path / "run" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(warnings_of(FinishedRun.read(tmp_path / "run"))) == []
    for row, accepted in zip(rows, (1, 0, 1, 1), strict=True):
        row |= {"step_accepted": accepted, "explained_variance": 0.5, "loss": 1.0}
    rows[-1] |= {"explained_variance": -0.5, "loss": None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(warnings_of(FinishedRun.read(tmp_path / "run"))) == [
        ("not-finite", "loss"),
        ("refused", "25% of 4 steps"),
        ("variance", "explained variance -0.50 in the last 1 iterations"),
    ]


def test_pictures_are_inline_as_far_as_there_is_room(tmp_path: Path) -> None:
    runs = []
    for seed in range(2):
        folder = write_run(tmp_path / f"seed{seed:03d}", "recall/ppo", seed, [1.0], [[1.0]])
        (folder / "learning.png").write_bytes(bytes([seed]) * 300)
        runs.append(FinishedRun.read(folder))
    section = pictures_section(runs, 500)
    assert base64.b64encode(bytes(300)).decode() in section
    assert base64.b64encode(bytes([1]) * 300).decode() not in section
    assert "Left out" in section
    assert "seed001/learning.png" in section


def test_ten_runs_are_below_five_megabytes(tmp_path: Path) -> None:
    for seed in range(10):
        curve: list[float | None] = [seed + i / 3 for i in range(1500)]
        folder = write_run(tmp_path / f"seed{seed:03d}", "recall/ppo", seed, curve, [[1.0]])
        (folder / "learning.png").write_bytes(bytes(500_000))
    content = make_report(group_runs([FinishedRun.read(path) for path in find_runs([tmp_path])]))
    assert len(content) < 5_000_000
    assert max(len(run["metrics"]["return"]["x"]) for run in Page(content).data["runs"]) <= 400


def test_the_command(two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert cli.run(["report", *map(str, two), "-o", str(out)]) == 0
    before = out.read_bytes()
    assert cli.run(["report", str(two[0]), "-o", str(out)]) == 2
    assert "nothing is written over" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert cli.run(["report"]) == 2
    assert cli.run(["report", str(tmp_path / "nothing")]) == 2


@needs_chromium
@pytest.mark.parametrize("width", [500, 800, 1400])  # Chromium makes no window narrower than 500
def test_a_browser_draws_it_without_an_error(width: int, two: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(make_report(group_runs([FinishedRun.read(path) for path in find_runs(two)])))
    dom = shown(page.as_uri(), tmp_path, f"--window-size={width},900")
    assert dom.count("<canvas") == 2
    widths = [int(found) for found in re.findall(r'<canvas[^>]* width="(\d+)"', dom)]
    assert all(200 < found <= width for found in widths)


KEYS = """<script>
addEventListener("load", () => setTimeout(async () => {
  const box = document.getElementById("curves"), canvas = () => box.querySelector("canvas").toDataURL();
  const press = (key) => new Promise((drawn) => {
    box.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    setTimeout(drawn, 100);
  });
  const seen = [canvas()];
  for (const key of ["+", "-", "+", "0"]) { await press(key); seen.push(canvas()); }
  await press("ArrowRight"); await press("ArrowRight"); await press("ArrowLeft");
  document.body.dataset.same = seen.map((image) => seen.indexOf(image)).join(" ");
}, 500));
</script></body>"""


@needs_chromium
def test_the_keyboard_zooms_and_reads_values(two: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    groups = group_runs([FinishedRun.read(path) for path in find_runs(two)])
    page.write_text(make_report(groups).decode().replace("</body>", KEYS))
    dom = shown(page.as_uri(), tmp_path, milliseconds=5000)
    same = re.findall(r"data-same=.([^\"]*)", dom)
    assert same == ["0 1 0 1 0"], "closer, back, closer, everything"
    said = re.search(r'id="curves-values"[^>]*>([^<]*)<', dom)
    assert said
    assert re.match(r"[\d.]+k?: .+ -?\d", said[1])


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(scheme: str, two: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(make_report(group_runs([FinishedRun.read(path) for path in find_runs(two)])))
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    assert accessibility_faults(page, tmp_path, *dark) == []


@needs_chromium
def test_a_page_with_faults_is_found_to_be_inaccessible(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><html lang="en"><title>t</title><body><main><h1>h</h1><p style="color:#bbb">pale</p>'
        '<img src="data:,"><button></button><a href="#a">a</a><ul><li>1</li></ul></main></body></html>'
    )
    found = " ".join(accessibility_faults(page, tmp_path))
    assert all(rule in found for rule in ("color-contrast", "image-alt", "button-name"))


def test_curves_are_thinned_and_are_of_the_reward_where_no_episode_ends(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "recall/ppo", 0, [None] * 3000, [[1.0]])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row | {"mean_reward": 0.5}) + "\n" for row in rows))
    data = page_data(group_runs([FinishedRun.read(run)]))
    assert data["y"] == "mean reward of a step"
    assert 300 < len(data["curves"][0]["x"]) <= 400


def test_every_group_and_run_looks_different(tmp_path: Path) -> None:
    assert len({key(look(i), "") for i in range(30)}) == 30
    for i in range(10):
        scores = dict.fromkeys(range(3), 1.0)
        write_seeds(tmp_path / str(i), "recall/ppo", scores, entropy_bonus=i / 10)
    page = make_report(group_runs([FinishedRun.read(path) for path in find_runs(list(tmp_path.iterdir()))]))
    data = Page(page).data
    for lines in (data["curves"], data["runs"]):
        assert len({(line["colour"], str(line["dash"])) for line in lines}) == len(lines)
    assert len(set(re.findall(rb'<span class="key" style="([^"]*)"', page))) == 10


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("scheme", "least"), [("light", 3.0), ("dark", 4.5)])
def test_lines_stand_out_from_their_panel(scheme: str, least: float) -> None:
    style = (files("surefoot.report") / "page" / "page.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    values = dict(re.findall(r"--([\w-]+): (#\w{6});", dark if scheme == "dark" else light))
    panel = luminance(values["panel"])
    series = [values[look(i)["colour"].removeprefix("--")] for i in range(len(COLOURS))]
    assert len(set(series)) == len(COLOURS)
    for colour in series:
        darker, lighter = sorted([panel, luminance(colour)])
        assert (lighter + 0.05) / (darker + 0.05) >= least, colour


PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const of = (step, ...values) => ticks(null, values, 0, 0, step).join(" ");
  const right = [...document.querySelectorAll(".scroll > svg text")].map((text) => {
    const box = text.getBBox();
    return text.ownerSVGElement.viewBox.baseVal.width - box.x - box.width;
  });
  document.body.dataset.found = JSON.stringify({
    ticks: [of(2000, 1e7, 10002000, 10004000), of(1, 12345, 12346, 12347), of(5000, 0, 5000, 1e4),
            of(0.1, -0.1, 0, 0.1, 0.30000000000000004), of(1e-8, 1e-8, 2e-8)],
    room: Math.min(...right),
  });
}, 500));
</script></body>"""


@needs_chromium
def test_ticks_are_told_apart_and_the_words_below_few_tasks_are_whole(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "bandit/maml-trpo", 0, [1.0, 2.0], [[1.0, 2.0, 3.0, 4.0, 5.0]] * 2)
    page = tmp_path / "page.html"
    content = make_report(group_runs([FinishedRun.read(tmp_path / "run")]))
    page.write_text(content.decode().replace("</body>", PROBE))
    found = re.search(r'data-found="([^"]*)"', shown(page.as_uri(), tmp_path))
    assert found
    measured = json.loads(html.unescape(found[1]))
    assert measured["ticks"] == [
        "10M 10.002M 10.004M",
        "12.345k 12.346k 12.347k",
        "0 5000 10k",
        "-0.1 0 0.1 0.3",
        "1e-8 2e-8",
    ]
    assert measured["room"] >= 0


def test_a_checkpoint_is_no_run(tmp_path: Path):
    run = write_seeds(tmp_path / "runs", "bandit/trpo", {0: 1.0}) / "seed000"
    with pytest.raises(UserError, match="is a checkpoint, and whole runs are wanted here"):
        find_runs([run / "checkpoints" / "000010.ckpt"])
