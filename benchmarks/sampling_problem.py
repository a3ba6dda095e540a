"""What is sampled: bodies and sizes, the same for all sides, and the episodes that the loops replay."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

CHECKED = 10
"""Steps after which the loops' bodies must stand where the sampler's do. The motion is chaotic: much later
the last digits of a solver that starts elsewhere would show."""


class Body(NamedTuple):
    """One of Gymnasium's MuJoCo bodies."""

    family: str
    """In surefoot's `envs`."""
    xml: str
    frame_skip: int
    forces: bool
    """Whether it observes contact forces, which MuJoCo computes when it is asked to."""
    unseen: int
    """How many of the positions, the first, it does not observe."""


BODIES = {
    "HalfCheetah-v5": Body("HalfCheetah", "half_cheetah.xml", 5, False, 1),
    "Ant-v5": Body("Ant", "ant.xml", 5, True, 2),
}


@dataclass(frozen=True)
class Problem:
    """An environment, and how much of it is played at a time."""

    name: str
    tasks: int = 40
    episodes: int = 20
    """Of each task."""
    single: int = 256
    """Episodes of the case with one task."""
    steps: int = 100
    """Of an episode, at most."""
    loop_episodes: int = 100
    """That a loop over one environment plays."""
    hidden: tuple[int, ...] = (64, 64)

    @property
    def body(self) -> Body:
        return BODIES[self.name]

    @property
    def environments(self) -> int:
        """Of all tasks."""
        return self.tasks * self.episodes


@dataclass(frozen=True)
class Workers:
    """What the process sampler plays: a Gymnasium environment, by its name or as MODULE:CLASS."""

    name: str
    work: int = 0
    """Bytes that a step of `sampling_busy:Busy` hashes."""
    tasks: int = 40
    episodes: int = 20
    steps: int = 100
    loop_episodes: int = 20
    hidden: tuple[int, ...] = (64, 64)


class Recording(NamedTuple):
    """Episodes as the batched sampler played them: axes `[episode ...]`, of all tasks."""

    actions: np.ndarray
    """`[episode time act]`, as drawn. After an episode's end they are standard normal, for peers that go on
    with another."""
    lengths: np.ndarray
    qpos: np.ndarray
    """At the beginning; so `qvel`."""
    qvel: np.ndarray
    seen: np.ndarray
    """Observations after `CHECKED` steps, or fewer where episodes are as short as that."""

    def save(self, path: Path) -> None:
        np.savez(path, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "Recording":
        with np.load(path) as stored:
            return cls(*(stored[field] for field in cls._fields))
