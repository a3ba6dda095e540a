"""The complete configuration of an experiment: a run with the same configuration is the same run."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from surefoot.algorithms import AbstractAlgorithm, Estimation, Estimator, Normalisation, Setting
from surefoot.envs import AbstractFamily
from surefoot.envs.base import check_time_limit, with_time_limit
from surefoot.options import Options, Printable, Seed, UserError, at_least
from surefoot.policies import AbstractPolicy, PolicyOptions
from surefoot.samplers import InProcess, SamplerOptions
from surefoot.types import Key


@dataclass(frozen=True)
class Evaluation(Options):
    """Options of evaluation: the return on tasks that the policy was not trained on, or on its own task if it
    does not adapt."""

    tasks: Annotated[int, at_least(1)] = 40
    """Number of held-out tasks. Of a policy that does not adapt: the number by which its episodes are
    multiplied."""
    episodes: Annotated[int, at_least(1)] = 20
    """Number of episodes of each task, before adaptation and after each step of it."""
    steps: Annotated[int, at_least(0)] = 3
    """Number of inner steps, each on fresh rollouts."""
    seed: Annotated[int, Seed] = 1
    """Random seed of the tasks and rollouts; independent of the training seed."""
    deterministic: bool = False
    """Whether the policy is evaluated by its mode, as published tables are. It adapts on sampled episodes
    either way. The evaluation at the end of training reports both."""
    horizon: Annotated[int, at_least(1)] = 1000
    """Number of steps after which an episode is cut, where the environment has no time limit of its own."""


@dataclass(frozen=True)
class Config(Options):
    """A complete experiment."""

    env: AbstractFamily
    policy: PolicyOptions
    algorithm: Annotated[AbstractAlgorithm, tyro.conf.arg(name="")]
    estimation: Estimation = Estimation()
    normalisation: Normalisation = Normalisation()
    sampler: SamplerOptions = InProcess()
    evaluation: Evaluation = Evaluation()
    """Evaluation at the end of training."""
    episodes: Annotated[int, at_least(1)] = 20
    """Number of whole episodes of each task in a batch."""
    streams: Annotated[int, at_least(0)] = 0
    """Number of parallel environments, collected in fixed-length batches of `steps` each, whatever ends in
    between; 0 for whole episodes."""
    steps: Annotated[int, at_least(1)] = 256
    """Number of steps of each parallel environment in a batch."""
    iterations: Annotated[int, at_least(1)] = 100
    """Number of iterations of training."""
    checkpoint_every: Annotated[int, at_least(1)] = 10
    """Number of iterations between checkpoints. There is always one at the end, and one when a run is
    interrupted."""
    checkpoints_kept: Annotated[int, at_least(0)] = 0
    """Number of latest checkpoints that are kept; older ones are deleted. 0 keeps all."""
    kept_every: Annotated[int, at_least(0)] = 0
    """Number of iterations between checkpoints that are kept for good, whatever `checkpoints_kept` says; 0
    for none."""
    seed: Annotated[int, Seed] = 0
    """Random seed of training."""
    preset: Annotated[str, tyro.conf.Suppress, tyro.conf.Fixed, Printable] = "custom"
    """Preset that the configuration was made from."""

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        if self.algorithm.adapts and not self.adapts_within_trials and self.evaluation.steps:
            self.estimation.validate(self.evaluation.episodes)
        if self.streams and self.estimation.credit == "whole-return":
            raise UserError(
                "The return of a whole episode is not known where streams are cut; set --streams 0 "
                "or choose another --estimation.credit."
            )

    @property
    def adapts_within_trials(self) -> bool:
        """Whether the policy adapts by its memory, from episode to episode of a trial."""
        return self.algorithm.adapts and self.algorithm.adaptation_rule is None

    def setting(self) -> Setting:
        """The sampler and estimator of training. To be closed after use."""
        if not self.streams:
            check_time_limit(self.env)
            return self.episode_setting(self.episodes)
        return Setting(self.sampler.of_streams(self.env, self.streams, self.steps), self.estimator)

    def episode_setting(self, episodes: int) -> Setting:
        """A sampler of whole episodes, as evaluation and adaptation need it, and the estimator. To be closed
        after use."""
        return Setting(self.sampler.of_episodes(self.episodic_env, episodes), self.estimator)

    @property
    def episodic_env(self) -> AbstractFamily:
        """The environment of whole episodes outside training: cut after `evaluation.horizon` steps if it has
        no time limit of its own. Raises `UserError` if none can be set."""
        return with_time_limit(self.env, self.evaluation.horizon)

    @property
    def estimator(self) -> Estimator:
        """The estimator that the options describe."""
        return Estimator.of(self.env, self.estimation, self.normalisation)

    def build_policy(self, key: Key) -> AbstractPolicy:
        """A new policy for the environment. Raises `UserError` if there is none for its spaces and
        horizon."""
        observations = self.algorithm.policy_space(self.env.observation_space)
        policy = self.policy.for_episodes(self.env.horizon)
        return policy.build(key, observations, self.env.action_space)
