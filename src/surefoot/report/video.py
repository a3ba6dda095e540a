"""The film of adaptation: a row for each task, before and after side by side, as MP4 and GIF."""

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, UInt8

from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.experiment import Config
from surefoot.experiment.evaluation import default_evaluation, evaluation_keys
from surefoot.experiment.files import make_folder, write_atomically
from surefoot.experiment.run import Run
from surefoot.options import UserError, check
from surefoot.report.encoding import encode
from surefoot.report.filming import Film, far_apart, film
from surefoot.report.panels import Panel, joined
from surefoot.report.rendering import Screen, find_backend
from surefoot.rules import AbstractRule

_SHORTEST = 2
"""Hundredths of a second for a frame: browsers slow a GIF down that is faster."""
_LINGER = 1.0
"""Seconds that the end is shown."""


@dataclass(frozen=True)
class Video:
    """What is filmed, and how it is shown."""

    tasks: int = 3
    """Held-out tasks, a row of the picture each: as different as can be of those that the run is evaluated
    on, and fewer where the environment has fewer."""
    steps: int = 3
    """Inner steps between before and after; with 0, the policy is shown as it is."""
    episodes: int = 20
    """Episodes of each inner step. They are not shown: a new one is."""
    seed: int = 1
    """Of the tasks and episodes."""
    seconds: float = 10.0
    """Of each episode, at most so much is shown, at the speed at which it happened."""
    width: int = 320
    """Pixels of a panel."""
    height: int = 240
    """Pixels of a panel, without its title."""
    format: Literal["mp4", "gif", "both"] = "both"

    def __post_init__(self) -> None:
        check(self.tasks >= 1, "tasks", self.tasks, "1 or more")
        check(self.steps >= 0, "steps", self.steps, "0 or more")
        check(self.episodes >= 1, "episodes", self.episodes, "1 or more")
        check(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 4294967295")
        check(0 < self.seconds < math.inf, "seconds", self.seconds, "above 0, and finite")
        for name, least in (("width", 240), ("height", 120)):
            size = getattr(self, name)
            check(size % 2 == 0 and least <= size <= 2048, name, size, f"even, and from {least} to 2048")

    @classmethod
    def of(cls, config: Config) -> "Video":
        """What fits a run's own evaluation."""
        evaluation = default_evaluation(config)
        tasks = min(cls.tasks, evaluation.tasks)
        return cls(tasks, evaluation.steps, evaluation.episodes, evaluation.seed)

    @property
    def formats(self) -> tuple[str, ...]:
        return ("mp4", "gif") if self.format == "both" else (self.format,)


class Made(NamedTuple):
    """What came of it."""

    files: list[Path]
    tasks: int
    """How many are shown."""


def make_video(
    run: Run, options: Video | None = None, out: Path | None = None, inner: AbstractRule | None = None
) -> Made:
    """Films a run's policy before and after adaptation to a few tasks. The files are `adaptation.mp4`
    and `adaptation.gif`, or `policy.mp4` and `policy.gif` of one that does not adapt.

    They are put into RUN/videos, where a new film replaces the last one, or into `out`, where nothing is
    written over. Needs the extra: `pip install 'surefoot[mujoco]'`. Raises `UserError` if the environment is
    not one of MuJoCo's, or if nothing can be drawn on this machine.
    """
    options = options or Video.of(run.config)
    env = filmable(run.config)
    find_backend()
    name = "adaptation" if options.steps else "policy"
    paths = [(out or run.folder.path / "videos") / f"{name}.{kind}" for kind in options.formats]
    _make_room(paths, replacing=out is None)
    rows = _film(run, env, options, inner)
    with closing(_frames(env, rows, options)) as frames:
        contents = encode(frames, interval(env.dt), options.formats)
    for path in paths:
        write_atomically(path, contents[path.suffix[1:]])
    return Made(paths, len(rows))


def filmable(config: Config) -> AbstractMujocoFamily:
    """The environment, if it has a body that can be drawn. Raises `UserError` if it has none."""
    if isinstance(config.env, AbstractMujocoFamily):
        return config.env
    picture = "adaptation.png" if default_evaluation(config).steps else "learning.png"
    raise UserError(
        f"{type(config.env).__name__} has no body to film: videos are of MuJoCo's environments "
        "(surefoot.envs.mujoco), not of those in JAX or of Gymnasium's own. See the picture of the run "
        f"instead: {picture} in its folder."
    )


def interval(dt: float) -> int:
    """Hundredths of a second, the unit of GIFs, from one frame to the next: as near to `dt` as can be."""
    return max(_SHORTEST, round(100 * dt))


def moments(dt: float, times: int) -> Int[np.ndarray, " frames"]:
    """Which of so many times, `dt` seconds apart, each frame shows, so that the speed is the true one: the
    last time is shown for as long as one looks at the end."""
    seconds = interval(dt) / 100
    last = (times - 1) * dt
    shown = np.arange(0, last + _LINGER + seconds / 2, seconds)
    return np.minimum(np.round(shown / dt).astype(int), times - 1)


def _make_room(paths: list[Path], replacing: bool) -> None:
    for path in paths:
        if path.exists() and not replacing:
            raise UserError(f"{path} exists already, and nothing is written over. Choose another --out.")
    make_folder(paths[0].parent)


def _film(
    run: Run, env: AbstractMujocoFamily, options: Video, inner: AbstractRule | None
) -> list[list[Film]]:
    # The tasks are among those of an evaluation with the same seed.
    task_key, play_key = evaluation_keys(options.seed)
    count = max(options.tasks, run.config.evaluation.tasks)
    tasks = run.config.algorithm.evaluation_tasks(env, run.state.learner, task_key, count)
    chosen = far_apart(tasks, options.tasks)
    return film(
        run,
        env,
        jax.tree.map(lambda x: x[chosen], tasks),
        play_key,
        steps=options.steps,
        episodes=options.episodes,
        limit=math.ceil(options.seconds / env.dt),
        inner=inner,
    )


def _frames(
    env: AbstractMujocoFamily, rows: list[list[Film]], options: Video
) -> Generator[UInt8[np.ndarray, "height width 3"], None, None]:
    """All the panels, moment by moment."""
    times = max(len(film.positions) for row in rows for film in row)
    with Screen(options.width, options.height) as screen:
        panels = [[Panel(screen, env, film) for film in row] for row in rows]
        for moment in moments(env.dt, times):
            pictures = [[panel.at(int(moment)) for panel in row] for row in panels]
            yield joined([joined(row, axis=1) for row in pictures], axis=0)
