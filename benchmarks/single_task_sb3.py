"""Training in Stable-Baselines3 (PPO) and sb3-contrib (TRPO), with `DummyVecEnv`: environments in a loop."""

import statistics
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from sb3_contrib import TRPO  # pyright: ignore[reportMissingImports]
from single_task_problem import Problem
from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.env_util import make_vec_env  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.vec_env import (  # pyright: ignore[reportMissingImports]
    DummyVecEnv,
    VecNormalize,
)


class Side:
    """Iterations, one after the other, on so many of PyTorch's threads."""

    def __init__(self, problem: Problem, threads: int) -> None:
        torch.set_num_threads(threads)
        self._problem, self._model = problem, _model(problem)

    def train(self, iterations: int) -> None:
        steps = iterations * self._problem.batch
        self._model.learn(steps, log_interval=None, reset_num_timesteps=False)

    def last_return(self) -> float:
        """Mean over the last hundred episodes."""
        return statistics.fmean(episode["r"] for episode in self._model.ep_info_buffer)


class WholeRun(Side):
    """A run from beginning to end."""

    def __init__(self, problem: Problem, iterations: int, threads: int) -> None:
        Side.__init__(self, problem, threads)
        self.train(iterations)


def _model(problem: Problem) -> Any:
    env = make_vec_env(problem.environment, problem.streams, seed=0, vec_env_cls=DummyVecEnv)
    if problem.normalises:
        env = VecNormalize(env, gamma=problem.discount)
    hidden = list(problem.hidden)
    shared = {
        "policy": "MlpPolicy",
        "env": env,
        "n_steps": problem.steps,
        "batch_size": problem.batch // problem.minibatches,
        "gamma": problem.discount,
        "gae_lambda": problem.gae_lambda,
        "policy_kwargs": {"net_arch": {"pi": hidden, "vf": hidden}},
        "device": "cpu",
        "seed": 0,
    }
    if problem.rule == "ppo":
        return PPO(
            **shared,
            learning_rate=lambda left: problem.lr * left,
            n_epochs=problem.epochs,
            clip_range=problem.clip,
            max_grad_norm=problem.max_gradient_norm,
        )
    return TRPO(
        **shared,
        learning_rate=problem.lr,
        n_critic_updates=problem.epochs,
        target_kl=problem.max_kl,
        cg_max_steps=problem.cg_iterations,
        cg_damping=problem.damping,
        line_search_shrinking_factor=problem.backtrack_ratio,
        line_search_max_iter=1 + problem.max_backtracks,
        sub_sampling_factor=1,
    )
