"""`surefoot video`."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from surefoot.cli.options import run_options
from surefoot.experiment import Config, load
from surefoot.report.cameras import camera_of
from surefoot.report.video import Video, make_video
from surefoot.rules import AbstractRule, GradientStep


@dataclass(frozen=True)
class _Video:
    video: Annotated[Video, tyro.conf.arg(name="")]
    inner: AbstractRule
    """Rule of adaptation. Several rates after --inner.lr are those of the steps in turn."""
    out: Path | None = None
    """The folder to put the files in, where nothing is written over; by default RUN/videos, where a new video
    replaces the last one."""


def command_video(arguments: list[str]) -> int:
    """Films a trained policy before and after adaptation; returns the exit code."""
    path, config, options = run_options("video", arguments, _default, example="half-cheetah-dir")
    for device in ("SDL_AUDIODRIVER", "SDL_VIDEODRIVER"):  # pygame would open them, though it draws in memory
        os.environ.setdefault(device, "dummy")
    camera_of(config)  # before the run is loaded, which imports MuJoCo: see `find_backend`
    print("adapting, sampling episodes and rendering …", file=sys.stderr)
    made = make_video(load(path), options.video, options.out, options.inner)
    if made.tasks < options.video.tasks:
        print(f"Tasks shown: {made.tasks}, for no others were found that differ.", file=sys.stderr)
    for file in made.files:
        print(f"video    {file}")
    return 0


def _default(config: Config) -> _Video:
    return _Video(video=Video.of(config), inner=config.algorithm.adaptation_rule or GradientStep())
