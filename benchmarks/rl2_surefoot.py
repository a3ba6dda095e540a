"""RL² in surefoot: an iteration of the algorithm, compiled."""

from typing import Any

import equinox as eqx
import jax
from rl2_problem import Problem

from surefoot.algorithms import RL2, Estimation, Normalisation
from surefoot.baselines import Zero
from surefoot.envs import Bandit, Trial
from surefoot.experiment import Config, Learner
from surefoot.policies import RecurrentActorCritic
from surefoot.rules import PPOClip


class Side:
    """surefoot's side of the comparison."""

    def __init__(self, problem: Problem) -> None:
        rule = PPOClip(lr=problem.lr, epochs=problem.epochs, minibatches=problem.minibatches)
        config = Config(
            env=Trial(Bandit(arms=problem.arms, horizon=problem.pulls), episodes=1),
            policy=RecurrentActorCritic(units=problem.units),
            algorithm=RL2(rule, entropy_bonus=problem.entropy_bonus, tasks=problem.trials),
            estimation=Estimation(
                Zero(), gae_lambda=problem.gae_lambda, discount=problem.discount, fit="previous-batch"
            ),
            normalisation=Normalisation(rewards=True),
            episodes=1,
        )
        self._learner = Learner(config)
        self._state = self._learner.init()
        self.metrics: Any = {}
        self._step: Any = eqx.filter_jit(self._learner.step)

    def iterate(self, iterations: int) -> float:
        """Trains on; returns the last batch's mean total reward of a trial."""
        for _ in range(iterations):
            self._state, self.metrics = self._step(self._state)
        jax.block_until_ready(self._state)
        return float(self.metrics["return"])
