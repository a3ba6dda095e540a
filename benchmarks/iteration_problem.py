"""What is iterated: sizes, and where episodes are played."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A preset of MAML-TRPO, its size, and its sampler."""

    preset: str = "half-cheetah-dir/maml-trpo"
    tasks: int = 40
    episodes: int = 20
    steps: int = 100
    threads: int = 0
    """Of the batched sampler; 0 for one for each core."""
    workers: int = 0
    """Of the process sampler; with 0, episodes are played in this process."""

    @property
    def sampled(self) -> int:
        """Steps of the environment in an iteration: before the inner step, and after it."""
        return 2 * self.tasks * self.episodes * self.steps


WHOLE = "whole"
"""Among the seconds of an iteration's parts, its own: less than they are together, where some work while
others do."""
PHYSICS = "physics"
UNDER_WAY = "physics under way"
"""Seconds in which one thread at least was stepping."""
