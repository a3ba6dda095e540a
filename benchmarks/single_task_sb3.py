"""Training in Stable-Baselines3 (PPO) and sb3-contrib (TRPO): environments in a loop (`DummyVecEnv`), or each
in a process of its own (`SubprocVecEnv`)."""

import importlib
import math
import multiprocessing
import statistics
from functools import partial
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from sb3_contrib import TRPO  # pyright: ignore[reportMissingImports]
from single_task_problem import Problem
from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.env_util import make_vec_env  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.evaluation import evaluate_policy  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.vec_env import (  # pyright: ignore[reportMissingImports]
    DummyVecEnv,
    SubprocVecEnv,
    VecNormalize,
)


class Side:
    """Iterations, one after the other, on so many of PyTorch's threads; with `processes`, one for each
    environment."""

    def __init__(self, problem: Problem, threads: int, processes: int, seed: int = 0) -> None:
        multiprocessing.current_process().daemon = False  # a daemon may have no processes of its own
        torch.set_num_threads(threads)
        self._problem = problem
        self._model = _model(problem, SubprocVecEnv if processes else DummyVecEnv, seed)

    def train(self, iterations: int) -> None:
        steps = iterations * self._problem.batch
        self._model.learn(steps, log_interval=None, reset_num_timesteps=False)

    def last_return(self) -> float:
        """Mean over the last hundred episodes; not a number if none has ended."""
        ended = [episode["r"] for episode in self._model.ep_info_buffer]
        return statistics.fmean(ended) if ended else math.nan

    def close(self) -> None:
        """Ends the environments' processes."""
        self._model.get_env().close()


class Scored(Side):
    """A run whose policy is rated when it is trained."""

    def __init__(self, problem: Problem, seed: int) -> None:
        Side.__init__(self, problem, threads=1, processes=0, seed=seed)

    def score(self, episodes: int, deterministic: bool) -> float:
        """The mean return of whole episodes, by sampled actions or by the policy's mode."""
        env = self._model.get_env()
        if isinstance(env, VecNormalize):
            env.training = env.norm_reward = False
        played = evaluate_policy(self._model, env, episodes, deterministic=deterministic, warn=False)
        return float(played[0])


class WholeRun(Side):
    """A run from beginning to end."""

    def __init__(self, problem: Problem, iterations: int, threads: int, processes: int) -> None:
        Side.__init__(self, problem, threads, processes)
        self.train(iterations)


def _model(problem: Problem, kind: Any, seed: int) -> Any:
    made = partial(_in_mujoco, problem.environment) if problem.in_mujoco else problem.environment
    env = make_vec_env(made, problem.streams, seed=seed, vec_env_cls=kind)
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
        "seed": seed,
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


def _in_mujoco(name: str) -> Any:
    """The environment, without MuJoCo's warnings of words in Gymnasium's models that it has given up."""
    importlib.import_module("mujoco").set_mju_user_warning(lambda _: None)
    return importlib.import_module("gymnasium").make(name)
