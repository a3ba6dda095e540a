"""What an experiment is, completely: a run with the same configuration is the same run."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from surefoot.algorithms import AbstractAlgorithm, Estimation, Normalisation, Setting
from surefoot.envs import AbstractFamily
from surefoot.options import UserError, check
from surefoot.policies import AbstractPolicy, PolicyOptions
from surefoot.samplers import InProcess, SamplerOptions
from surefoot.types import Key


@dataclass(frozen=True)
class Evaluation:
    """How a policy is judged: by adapting it to tasks it was not trained on."""

    tasks: int = 40
    """Held-out tasks."""
    episodes: int = 20
    """Episodes of each task, before adaptation and after each step of it."""
    steps: int = 3
    """Inner steps, each on fresh rollouts."""
    seed: int = 1
    """Of the tasks and rollouts; independent of the training seed."""

    def __post_init__(self) -> None:
        check(self.tasks >= 1, "tasks", self.tasks, "1 or more")
        check(self.episodes >= 1, "episodes", self.episodes, "1 or more")
        check(self.steps >= 0, "steps", self.steps, "0 or more")
        check(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 4294967295")


@dataclass(frozen=True)
class Config:
    """An experiment."""

    env: AbstractFamily
    policy: PolicyOptions
    algorithm: Annotated[AbstractAlgorithm, tyro.conf.arg(name="")]
    estimation: Estimation = Estimation()
    normalisation: Normalisation = Normalisation()
    sampler: SamplerOptions = InProcess()
    evaluation: Evaluation = Evaluation()
    """What the run reports at its end."""
    episodes: int = 20
    """Whole episodes of each task, for each batch."""
    streams: int = 0
    """Instead of whole episodes: so many environments side by side that never stop. A batch is `steps` of
    each, whatever ends in between."""
    steps: int = 256
    """Steps of each stream, for each batch."""
    iterations: int = 100
    """Iterations of training."""
    checkpoint_every: int = 10
    """Iterations from one checkpoint to the next. There is always one at the end, and one when a run is
    interrupted."""
    seed: int = 0
    """Everything random in training follows from it."""
    preset: Annotated[str, tyro.conf.Suppress, tyro.conf.Fixed] = "custom"
    """The preset it began as."""

    def __post_init__(self) -> None:
        check(self.iterations >= 1, "iterations", self.iterations, "1 or more")
        check(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "1 or more")
        check(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 4294967295")
        check(self.episodes >= 1, "episodes", self.episodes, "1 or more")
        check(self.streams >= 0, "streams", self.streams, "0 or more")
        check(self.steps >= 1, "steps", self.steps, "1 or more")
        self.estimation.validate(self.streams or self.episodes)
        self.estimation.validate(self.evaluation.episodes)
        if self.streams and self.estimation.credit == "whole-return":
            raise UserError(
                "The return of a whole episode is not known where streams are cut; set --streams 0 "
                "or choose another --estimation.credit."
            )

    def setting(self) -> Setting:
        """Where training's data comes from, and how it is judged. Its sampler is to be closed after use."""
        if not self.streams:
            return self.episode_setting(self.episodes)
        sampler = self.sampler.of_streams(self.env, self.streams, self.steps)
        return Setting(sampler, self.estimation, self.normalisation)

    def episode_setting(self, episodes: int) -> Setting:
        """Whole episodes, as evaluation and adaptation need them."""
        sampler = self.sampler.of_episodes(self.env, episodes)
        return Setting(sampler, self.estimation, self.normalisation)

    def build_policy(self, key: Key) -> AbstractPolicy:
        """A new policy for the environment."""
        return self.policy.build(key, self.env.observation_size, self.env.action_space)
