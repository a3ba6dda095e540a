"""`surefoot video`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from surefoot.cli.options import swap_parts
from surefoot.experiment import Config, load, preset
from surefoot.experiment.evaluation import inner_rule
from surefoot.experiment.run import RunFolder
from surefoot.experiment.serialise import load_config
from surefoot.options import UserError
from surefoot.report.rendering import find_backend
from surefoot.report.video import Video, filmable, make_video
from surefoot.rules import AbstractRule


@dataclass(frozen=True)
class _Video:
    run: tyro.conf.Positional[Path]
    """A run folder, or a checkpoint in one."""
    video: Annotated[Video, tyro.conf.arg(name="")]
    inner: AbstractRule
    """How the policy adapts; several rates after --inner.lr are those of the steps in turn."""
    out: Path | None = None
    """The folder to put the files in, where nothing is written over; by default RUN/videos, where a new video
    replaces the last one."""


def command_video(arguments: list[str]) -> int:
    """Films a trained policy before and after adaptation; returns the exit code."""
    asks_for_help = bool({"-h", "--help"} & set(arguments))
    words = [a for a in arguments if not a.startswith("-")]
    path = next((word for word in words if Path(word).exists()), words[0] if words else None)
    if path is None and not asks_for_help:
        raise UserError("A video of what? Name a run folder.")
    config = _config_of(Path(path)) if path and not asks_for_help else preset("half-cheetah-dir")
    default = _Video(run=Path(path or "RUN"), video=Video.of(config), inner=inner_rule(config))
    default, rest = swap_parts(default, arguments, {"inner": "rules"})
    options = tyro.cli(_Video, default=default, args=rest, prog="surefoot video")
    filmable(config)
    # Before the run is loaded, which imports MuJoCo: see there.
    find_backend()
    print("adapting, playing and drawing …", file=sys.stderr)
    made = make_video(load(options.run), options.video, options.out, options.inner)
    if made.tasks < options.video.tasks:
        print(f"Tasks shown: {made.tasks}, for no others were found that differ.", file=sys.stderr)
    for file in made.files:
        print(f"video    {file}")
    return 0


def _config_of(path: Path) -> Config:
    return load_config(RunFolder.open(path.parent.parent if path.suffix == ".ckpt" else path).config)
