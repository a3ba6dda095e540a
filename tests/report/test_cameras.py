"""Videos of what renders itself: Gymnasium's environments, gymnax's, and environments in JAX of one's own."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from support.gymnasium_envs import Rendered
from surefoot.algorithms import MAML, Estimation, SingleTask
from surefoot.baselines import Zero
from surefoot.envs import Gymnasium, Gymnax, Navigation2D
from surefoot.experiment import Config, Evaluation
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.run import Run
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.report.cameras import ScreenCamera, StateCamera, camera_of
from surefoot.report.video import Video, make_video

MINE = "support.gymnasium_envs:"
SMALL = Video(tasks=2, steps=1, episodes=2, width=240, height=160, seconds=1.0, format="gif")
GOALS = Gymnasium(MINE + "Rendered", time_limit=8)


@dataclass(frozen=True)
class Drawn(Navigation2D):
    """Navigation with a picture whose red is the position."""

    horizon: int = 6
    dt = 0.2

    def render(self, state: Any, task: Any) -> Any:
        picture = np.zeros((8, 12, 3), np.uint8)
        picture[..., 0] = 128 + 100 * np.tanh(np.asarray(state)[0])
        return picture


@dataclass(frozen=True)
class Broken(Drawn):
    def render(self, state: Any, task: Any) -> Any:
        raise ValueError("no ink")


@dataclass(frozen=True)
class Flat(Drawn):
    def render(self, state: Any, task: Any) -> Any:
        return np.zeros((4, 4))


def untrained(path: Path, env: Any, policy: Any = None, **changes: Any) -> Run:
    config = Config(
        env=env,
        policy=policy or GaussianMLP(hidden=(4,)),
        algorithm=MAML(tasks=2),
        estimation=Estimation(Zero(), fit="same-batch"),
        evaluation=Evaluation(tasks=4, episodes=2, steps=1),
        episodes=2,
    )
    config = replace(config, **changes)
    return Run(RunFolder.create(path / "run"), config, compiled_initial_state(config))


def frames(run: Run, options: Video = SMALL) -> tuple[list[np.ndarray], int]:
    """The frames of a GIF, and the milliseconds of one."""
    (file,) = make_video(run, options).files
    with Image.open(file) as gif:
        shown = []
        for index in range(gif.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
            gif.seek(index)
            shown.append(np.asarray(gif.convert("RGB")).astype(int))
        gif.seek(0)
        return shown, gif.info["duration"]


def test_gymnasium_draws_each_task_before_and_after(tmp_path: Path) -> None:
    pictures, milliseconds = frames(untrained(tmp_path, GOALS))
    assert milliseconds == 100, "the speed is that of its metadata"
    assert pictures[0].shape == (2 * 184 + 4, 2 * 240 + 4, 3)
    red = (pictures[0][..., 0] > 150) & (pictures[0][..., 1] < 50)
    top, bottom = red[24:184, :240], red[184 + 4 + 24 :, :240]
    assert top.sum() > 300
    assert bottom.sum() > 300
    assert not np.array_equal(top, bottom[:160]), "each row shows its own goal"
    assert np.abs(pictures[-1] - pictures[0]).max() > 5, "and it moves"


@pytest.mark.parametrize(
    "env",
    [Gymnasium(MINE + "wrapped_and_rendered", time_limit=3), replace(GOALS, kwargs=("render_mode=human",))],
)
def test_functions_and_arguments_render_too(env: Gymnasium, tmp_path: Path) -> None:
    assert env.rendering().frames_per_second == 10
    assert frames(untrained(tmp_path, replace(env, time_limit=3)), replace(SMALL, steps=0))[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("without_pictures", r'without_pictures cannot be filmed: .*render_mode="rgb_array"'),
        ("Goals", r"Goals cannot be filmed"),
        ("Misdrawn", r"`render` gave float64\[20, 30, 3\]"),
    ],
)
def test_what_does_not_render_is_refused(name: str, told: str, tmp_path: Path) -> None:
    run = untrained(tmp_path, Gymnasium(MINE + name, time_limit=3))
    with pytest.raises(UserError, match=told):
        make_video(run, SMALL)


def test_a_task_is_named_where_there_is_more_than_one() -> None:
    for env, caption in ((GOALS, True), (Gymnasium("CartPole-v1"), False)):
        camera = ScreenCamera(env, env.sample_tasks(jax.random.key(0), 1), 64, 48)
        assert bool(camera.caption(0)) == caption


def test_a_missing_library_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(self: Any) -> Any:
        raise ImportError("pygame is not installed, run `pip install gymnasium[classic-control]`")

    monkeypatch.setattr(Rendered, "render", render)
    with pytest.raises(UserError, match="raised ImportError: pygame is not installed"):
        make_video(untrained(tmp_path, GOALS), SMALL)


def test_an_environment_in_jax_draws_its_states(tmp_path: Path) -> None:
    pictures, milliseconds = frames(untrained(tmp_path, Drawn()))
    assert milliseconds == 200
    assert len(pictures) >= 1 + SMALL.seconds / Drawn.dt
    reds = [picture[100, 120, 0] for picture in pictures]
    assert reds[0] == pytest.approx(128, abs=2)
    assert max(abs(red - reds[0]) for red in reds) > 1


@pytest.mark.parametrize(
    ("env", "told"), [(Broken(), "ValueError: no ink"), (Flat(), r"gave float64\[4, 4\]")]
)
def test_a_picture_that_fails_is_told_before_anything_is_sampled(env: Any, told: str, tmp_path: Path) -> None:
    run = untrained(tmp_path, env)
    with pytest.raises(UserError, match=told):
        make_video(run, SMALL)
    assert not (run.folder.path / "videos").exists()


def test_gymnax_is_drawn_by_its_visualizer(tmp_path: Path) -> None:
    pytest.importorskip("gymnax", reason="the extra gymnax is not installed")
    changes = {"algorithm": SingleTask(), "evaluation": Evaluation(tasks=1, episodes=2, steps=0)}
    run = untrained(tmp_path, Gymnax("Catch-bsuite"), CategoricalMLP(hidden=(4,)), **changes)
    pictures, milliseconds = frames(run, replace(SMALL, tasks=1, steps=0))
    assert milliseconds == 100
    assert pictures[0].shape == (184, 240, 3)
    assert np.abs(pictures[3][24:150] - pictures[0][24:150]).max() > 100, "the ball falls"


@pytest.mark.parametrize("name", ["Breakout-MinAtar", "FourRooms-misc", "PointRobot-misc"])
def test_gymnax_draws_this(name: str) -> None:
    pytest.importorskip("gymnax", reason="the extra gymnax is not installed")
    env = Gymnax(name)
    camera = StateCamera(env, env.sample_tasks(jax.random.key(0), 1), 240, 160)
    state, _ = env.reset(jax.random.key(1), None)
    assert camera.draw(0, state).std() > 10
    assert camera.status(3) == "step 3"


def test_gymnax_says_what_it_does_not_draw() -> None:
    pytest.importorskip("gymnax", reason="the extra gymnax is not installed")
    env = Gymnax("DeepSea-bsuite")
    assert camera_of(replace(_CONFIG, env=env)) is StateCamera
    with pytest.raises(
        UserError, match="DeepSea-bsuite cannot be filmed: gymnax's Visualizer does not draw it"
    ):
        StateCamera(env, env.sample_tasks(jax.random.key(0), 1), 240, 160)


_CONFIG = Config(env=Navigation2D(), policy=GaussianMLP(), algorithm=SingleTask())
