"""Videos of adaptation: a row for each task, before and after side by side, as MP4 and GIF."""

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, UInt8

from surefoot.experiment import Config
from surefoot.experiment.evaluation import default_evaluation, evaluation_keys
from surefoot.experiment.files import make_folder, must_not_exist, write_atomically
from surefoot.experiment.run import Run
from surefoot.options import Bound, Options, Positive, Seed, at_least
from surefoot.report.cameras import AbstractCamera, camera_of
from surefoot.report.encoding import encode
from surefoot.report.filming import Film, far_apart, film
from surefoot.report.panels import Panel, joined
from surefoot.rules import AbstractRule

_SHORTEST = 2
"""Shortest time between frames in hundredths of a second: browsers slow faster GIFs down."""
_LINGER = 1.0
"""Seconds for which the last frame is shown."""


def _even(least: int) -> Bound:
    return Bound(lambda size: size % 2 == 0 and least <= size <= 2048, f"even, and from {least} to 2048")


@dataclass(frozen=True)
class Video(Options):
    """Options of a video."""

    tasks: Annotated[int, at_least(1)] = 3
    """Number of held-out tasks, each a row of the picture: those of the run's evaluation that differ most;
    fewer if the environment has fewer."""
    steps: Annotated[int, at_least(0)] = 3
    """Number of inner steps between before and after; with 0, the policy is shown without adaptation."""
    episodes: Annotated[int, at_least(1)] = 20
    """Number of episodes of each inner step. They are not shown: a new one is."""
    seed: Annotated[int, Seed] = 1
    """Seed of the tasks and episodes."""
    seconds: Annotated[float, Positive] = 10.0
    """Length of the episodes shown, at most, in simulated seconds, which is also the speed shown. A step of
    Gymnasium's lasts one frame of its `render_fps`, a step of your own environment in JAX `dt`, or 0.1 s."""
    width: Annotated[int, _even(240)] = 320
    """Width of a panel in pixels."""
    height: Annotated[int, _even(120)] = 240
    """Height of a panel in pixels, without its title."""
    format: Literal["mp4", "gif", "both"] = "both"
    """File format."""

    @classmethod
    def of(cls, config: Config) -> "Video":
        """The options that match a run's evaluation."""
        evaluation = default_evaluation(config)
        tasks = min(cls.tasks, evaluation.tasks)
        return cls(tasks, evaluation.steps, evaluation.episodes, evaluation.seed)

    @property
    def formats(self) -> tuple[str, ...]:
        """The file formats that are made."""
        return ("mp4", "gif") if self.format == "both" else (self.format,)


class Made(NamedTuple):
    """The files of a video."""

    files: list[Path]
    tasks: int
    """Number of tasks shown."""


def make_video(
    run: Run, options: Video | None = None, out: Path | None = None, inner: AbstractRule | None = None
) -> Made:
    """Films a run's policy before and after adaptation to a few tasks. The files are `adaptation.mp4` and
    `adaptation.gif`, or `policy.mp4` and `policy.gif` if it does not adapt.

    They are put into RUN/videos, where a new video replaces the last one, or into `out`, where nothing is
    overwritten. MP4 and MuJoCo's pictures need the extra: `pip install 'surefoot[mujoco]'`. Raises
    `UserError` if the environment cannot be filmed, or if nothing can be drawn on this machine.
    """
    options = options or Video.of(run.config)
    kind = camera_of(run.config)
    name = "adaptation" if options.steps else "policy"
    paths = [(out or run.folder.path / "videos") / f"{name}.{format}" for format in options.formats]
    for path in paths:
        if out is not None:
            must_not_exist(path)
    # The tasks are among those of an evaluation with the same seed.
    task_key, episode_key = evaluation_keys(options.seed)
    count = max(options.tasks, run.config.evaluation.tasks)
    tasks = run.config.algorithm.evaluation_tasks(run.config.env, run.state.learner, task_key, count)
    chosen = far_apart(tasks, options.tasks)
    shown = jax.tree.map(lambda x: x[chosen], tasks)
    with closing(kind(run.config.env, shown, options.width, options.height)) as camera:
        make_folder(paths[0].parent)
        rows = film(
            run,
            camera,
            episode_key,
            steps=options.steps,
            episodes=options.episodes,
            limit=math.ceil(options.seconds / camera.dt),
            inner=inner,
        )
        with closing(_frames(camera, rows)) as frames:
            contents = encode(frames, interval(camera.dt), options.formats)
    for path in paths:
        write_atomically(path, contents[path.suffix[1:]])
    return Made(paths, len(rows))


def interval(dt: float) -> int:
    """The time between frames in hundredths of a second, the unit of GIFs: as near to `dt` as possible."""
    return max(_SHORTEST, round(100 * dt))


def moments(dt: float, times: int) -> Int[np.ndarray, " frames"]:
    """The time step that each frame shows, of `times` that are `dt` seconds apart, at true speed. The last
    one is shown for another second."""
    seconds = interval(dt) / 100
    last = (times - 1) * dt
    shown = np.arange(0, last + _LINGER + seconds / 2, seconds)
    return np.minimum(np.round(shown / dt).astype(int), times - 1)


def _frames(
    camera: AbstractCamera, rows: list[list[Film]]
) -> Generator[UInt8[np.ndarray, "height width 3"], None, None]:
    """All the panels, moment by moment."""
    panels = [[Panel(camera, film) for film in row] for row in rows]
    longest = max(len(film.recorded) for row in rows for film in row)
    for moment in moments(camera.dt, longest).tolist():
        yield joined([joined([panel.at(moment) for panel in row], axis=1) for row in panels], axis=0)
