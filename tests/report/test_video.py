import os
import subprocess
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from surefoot.algorithms import MAML, Estimation, SingleTask
from surefoot.baselines import Zero
from surefoot.envs import (
    AbstractFamily,
    AntGoal,
    AntHeading,
    HalfCheetah,
    HalfCheetahDir,
    HalfCheetahVel,
    HopperParams,
    Navigation2D,
)
from surefoot.envs.mujoco import rendering
from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.envs.mujoco.rendering import find_backend
from surefoot.experiment import Config, Evaluation
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.run import Run
from surefoot.options import UserError
from surefoot.policies import GaussianMLP
from surefoot.report import encoding
from surefoot.report.cameras import BodyCamera, camera_of
from surefoot.report.filming import Film, far_apart, film
from surefoot.report.panels import Panel
from surefoot.report.video import Video, interval, make_video, moments
from surefoot.rules import GradientStep

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra mujoco is not installed")
pytest.importorskip("mujoco", reason="the extra mujoco is not installed")

SMALL = Video(tasks=2, steps=1, episodes=2, width=240, height=160)
HOLD = 20
"""Frames of the half-cheetah's for which the end is shown: a second."""


@pytest.fixture(scope="module")
def can_draw() -> None:
    """Skips what cannot be tested here, and says what is missing."""
    try:
        find_backend()
    except UserError as error:
        pytest.skip(str(error))


def untrained(path: Path, env: AbstractFamily, **changes: object) -> Run:
    config = Config(
        env=env,
        policy=GaussianMLP(hidden=(8,), output_scale=1.0),
        algorithm=MAML(inner=GradientStep(lr=1.0), tasks=2),
        estimation=Estimation(Zero(), fit="same-batch"),
        evaluation=Evaluation(tasks=6, episodes=2, steps=1),
        episodes=2,
    )
    config = replace(config, **changes)
    return Run(RunFolder.create(path), config, compiled_initial_state(config))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return untrained(tmp_path_factory.mktemp("video") / "run", HalfCheetahDir(horizon=8))


@pytest.fixture(scope="module")
def files(run: Run, can_draw: None) -> list[Path]:
    made = make_video(run, SMALL)
    assert made.tasks == 2
    return made.files


def read(movie: Path, width: int, height: int) -> np.ndarray:
    """All the frames of an MP4."""
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(movie)]
    raw = subprocess.run(
        [*words, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, height, width, 3)


def half(frame: np.ndarray, row: int, column: int) -> np.ndarray:
    """One panel's picture, without its title and the words at the bottom."""
    top, left = row * (160 + 24 + 4) + 24, column * (240 + 4)
    return frame[top : top + 130, left : left + 240].astype(int)


def test_before_and_after_move_side_by_side(run: Run, files: list[Path]) -> None:
    assert files == [run.folder.path / "videos" / name for name in ("adaptation.mp4", "adaptation.gif")]
    frames = read(files[0], 2 * 240 + 4, 2 * 184 + 4)
    assert len(frames) == 1 + 8 + HOLD
    assert imageio_ffmpeg.count_frames_and_secs(str(files[0])) == (29, pytest.approx(29 / 20, abs=0.01))
    first, last = frames[0], frames[-1]
    for row in range(2):
        assert np.abs(half(first, row, 0) - half(first, row, 1)).mean() < 3, "they begin alike"
        assert np.abs(half(last, row, 0) - half(last, row, 1)).mean() > 5, "and part"
        for column in range(2):
            assert half(first, row, column).std() > 20, "something is there"
            assert np.abs(half(last, row, column) - half(first, row, column)).mean() > 5, "and moves"


def test_the_gif_takes_as_long_and_shows_the_same(files: list[Path]) -> None:
    movie = read(files[0], 2 * 240 + 4, 2 * 184 + 4)
    with Image.open(files[1]) as gif:
        assert gif.info["loop"] == 0
        durations = []
        for index in range(gif.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
            gif.seek(index)
            durations.append(gif.info["duration"])
        end = np.asarray(gif.convert("RGB"))
    assert sum(durations) == 50 * len(movie)
    assert durations[0] == 50
    assert np.abs(half(end, 1, 1) - half(movie[-1], 1, 1)).mean() < 12


@pytest.mark.usefixtures("can_draw")
def test_a_policy_that_does_not_adapt_has_one_panel(tmp_path: Path) -> None:
    found = untrained(tmp_path / "run", HalfCheetah(horizon=1000), algorithm=SingleTask())
    options = replace(Video.of(found.config), seconds=0.2, format="gif", width=240, height=160)
    assert options.steps == 0
    assert make_video(found, options) == ([tmp_path / "run" / "videos" / "policy.gif"], 1)
    with Image.open(tmp_path / "run" / "videos" / "policy.gif") as gif:
        assert gif.size == (240, 184)
        assert gif.n_frames >= 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.usefixtures("can_draw")
def test_every_task_has_its_own_body_and_an_episode_ends_where_it_falls(tmp_path: Path) -> None:
    env = HopperParams(horizon=150)
    found = untrained(tmp_path / "run", env)
    tasks = env.sample_tasks(jax.random.key(0), 2)
    with closing(BodyCamera(env, tasks, 240, 160)) as camera:
        rows = film(found, camera, jax.random.key(1), steps=0, episodes=2, limit=1000)
        (first,), (second,) = rows
        assert camera.models[0] is not camera.models[1]
        assert camera.caption(0) != camera.caption(1)
        for one in (first, second):
            assert one.terminated
            assert 2 < len(one.recorded) == len(one.returns) < 150
            assert one.recorded[-1][1] < one.recorded[0][1]
            assert one.returns[0] == 0
        panel = Panel(camera, first)
        end = len(first.recorded) - 1
        assert np.array_equal(panel.at(end), panel.at(1000)), "it stays as it fell"
        assert not np.array_equal(panel.at(end), panel.at(end - 1))


@pytest.mark.usefixtures("can_draw")
@pytest.mark.parametrize(
    ("env", "task"), [(AntGoal(), np.array([1.0, 1.0])), (AntHeading(), np.array([0.6, 0.8]))]
)
def test_goals_and_directions_are_drawn(env: AbstractMujocoFamily, task: np.ndarray) -> None:
    at_rest = Film("", 0, [env.model.qpos0], np.zeros(1), terminated=False)
    with closing(BodyCamera(env, task[None], 240, 160)) as camera:
        picture = half(Panel(camera, at_rest).at(0), 0, 0)
    red = (picture[..., 0] > 1.6 * picture[..., 1]) & (picture[..., 1] < 1.3 * picture[..., 2])
    assert red.sum() > 20


@pytest.mark.parametrize(
    ("env", "task", "words"),
    [
        (HalfCheetahDir(), np.array(-1.0), "← run backward"),
        (HalfCheetahVel(), np.array(1.234), "run at 1.23 m/s"),
        (AntHeading(), np.array([0.0, -1.0]), "run towards 270°"),
        (AntGoal(), np.array([1.26, -0.5]), "go to (1.3, −0.5)"),
        (HalfCheetah(), np.zeros(0), ""),
    ],
)
def test_tasks_have_words(env: AbstractMujocoFamily, task: np.ndarray, words: str) -> None:
    assert env.describe(task) == words


def test_the_speed_is_the_true_one() -> None:
    assert [interval(dt) for dt in (0.05, 0.02, 0.015, 0.008)] == [5, 2, 2, 2]
    for dt, times in ((0.05, 101), (0.008, 201), (0.015, 101)):
        shown = moments(dt, times)
        seconds = interval(dt) / 100 * np.arange(len(shown))
        running = shown < times - 1
        assert np.abs(shown * dt - seconds)[running].max() <= dt / 2 + 1e-9
        assert shown[0] == 0
        assert shown[-1] == times - 1
        assert seconds[-1] == pytest.approx((times - 1) * dt + 1, abs=0.06)


def test_the_tasks_shown_are_as_different_as_can_be() -> None:
    assert far_apart(np.array([1.0, 1.0, -1.0, 1.0]), 3).tolist() == [0, 2], "and none is shown twice"
    assert far_apart(np.array([0.4, 0.5, 2.0, 0.0]), 3).tolist() == [0, 2, 3]
    assert far_apart({"a": np.zeros((2, 1)), "b": np.array([0.0, 1.0])}, 5).tolist() == [0, 1]
    assert far_apart(np.zeros((3, 0)), 2).tolist() == [0]


def test_nothing_is_written_over_but_the_last_video(run: Run, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "adaptation.gif").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        make_video(run, SMALL, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["adaptation.gif"]
    before = files[1].read_bytes()
    make_video(run, replace(SMALL, format="gif"))
    assert files[1].read_bytes() == before, "the same seed, the same film"


def test_an_interruption_leaves_the_old_files(run: Run, files: list[Path], monkeypatch) -> None:
    before = {file: file.read_bytes() for file in files}
    drawn: list[int] = []

    def interrupted(panel: Panel, moment: int) -> np.ndarray:
        drawn.append(moment)
        if len(drawn) > 9:
            raise KeyboardInterrupt
        return np.zeros((184, 240, 3), np.uint8)

    monkeypatch.setattr(Panel, "at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_video(run, SMALL)
    folder = run.folder.path / "videos"
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_an_encoder_that_fails_says_so(monkeypatch) -> None:
    frames = [np.zeros((16, 16, 3), np.uint8)] * 3
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    with pytest.raises(UserError, match="--format gif"):
        encoding.encode(iter(frames), 5, ("mp4",))
    assert list(encoding.encode(iter(frames), 5, ("gif",))) == ["gif"]


@pytest.fixture
def fresh(monkeypatch) -> pytest.MonkeyPatch:
    """Nothing is known yet of what can draw."""
    monkeypatch.setattr(rendering, "_try", cache(rendering._try.__wrapped__))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    return monkeypatch


def test_where_nothing_can_draw_one_message_says_what_to_install(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("PYOPENGL_PLATFORM", "nothing")
    with pytest.raises(UserError, match=r"egl: ImportError.*osmesa: ImportError.*apt install libegl1"):
        find_backend()
    fresh.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(UserError, match=r"\(osmesa: ImportError: Cannot use OSMesa"):
        find_backend()


def test_the_user_s_choice_is_kept(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(rendering, "_try", lambda backend: "" if backend != "egl" else "no")
    assert find_backend() == ("osmesa" if os.uname().sysname == "Linux" else find_backend())
    fresh.setenv("MUJOCO_GL", "GLFW")
    assert find_backend() == "glfw"
    for word in ("disable", "opengl"):
        fresh.setenv("MUJOCO_GL", word)
        with pytest.raises(UserError, match=f"MUJOCO_GL is '{word}'"):
            find_backend()


def test_what_has_no_pictures_cannot_be_filmed(tmp_path: Path) -> None:
    found = untrained(tmp_path / "run", Navigation2D())
    with pytest.raises(UserError, match=r"Navigation2D cannot be filmed.*adaptation\.png"):
        make_video(found)
    with pytest.raises(UserError, match=r"learning\.png"):
        camera_of(replace(found.config, algorithm=SingleTask()))
    assert not (tmp_path / "run" / "videos").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"tasks": 0},
        {"steps": -1},
        {"episodes": 0},
        {"seed": -1},
        {"seconds": 0.0},
        {"width": 161},
        {"height": 16},
    ],
)
def test_options_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is"):
        replace(SMALL, **wrong)
