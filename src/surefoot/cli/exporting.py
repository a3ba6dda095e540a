"""`surefoot export`."""

from pathlib import Path
from typing import Annotated

import tyro

from surefoot.experiment import load
from surefoot.experiment.stablehlo import Platform


def command_export(
    run: tyro.conf.Positional[Path],
    /,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    platforms: tuple[Platform, ...] = ("cpu", "cuda"),
    episodes: int | None = None,
) -> int:
    """Write a trained policy as StableHLO and as NumPy arrays, which act without this library.

    export.json in the folder says what each file is, and the form of its inputs and outputs.

    Args:
        run: A run folder, or a checkpoint in one.
        out: The folder to make; must not exist. By default RUN/export.
        platforms: Platforms that the StableHLO runs on.
        episodes: Number of episodes of a step of adaptation; by default that of training.
    """
    found = load(run)
    folder = out or found.folder.path / "export"
    said = found.export(folder, platforms=platforms, episodes=episodes)
    for name, about in said.items():
        if (folder / name).exists():
            print(f"export   {folder / name}")
        elif name == "weights.npz":
            print(f"Without weights.npz: {about}")
    return 0
