"""Ready settings for algorithms, and their iterations compiled."""

from typing import Any

import equinox as eqx
import jax

from support.probes import Target
from surefoot.algorithms import AbstractAlgorithm, Estimation, LearnerState, Setting
from surefoot.baselines import Zero
from surefoot.envs import AbstractEnv
from surefoot.policies import GaussianMLP
from surefoot.samplers import ScanSampler


def setting_of(env: AbstractEnv | None = None, *, episodes: int = 8, **options: Any) -> Setting:
    """The one-step probe unless told otherwise, which needs no baseline: its advantages are normalised."""
    estimation = Estimation(**{"baseline": Zero(), "fit": "same-batch", "discount": 1.0, **options})
    return Setting.of(ScanSampler(env or Target(), episodes), estimation)


def policy_for(setting: Setting, algorithm: AbstractAlgorithm | None = None, **options: Any) -> Any:
    env = setting.sampler.env
    space = env.observation_space if algorithm is None else algorithm.policy_space(env.observation_space)
    build = GaussianMLP(**{"hidden": (), "output_scale": 0.0, **options}).build
    return build(jax.random.key(0), space, env.action_space)


@eqx.filter_jit
def iterate(algorithm: AbstractAlgorithm, setting: Setting, state: LearnerState, key: Any) -> Any:
    return algorithm.iterate(setting, state, key)


def train(
    algorithm: AbstractAlgorithm, setting: Setting, policy: Any, *, iterations: int
) -> tuple[Any, list]:
    """The last state, and the metrics of every iteration."""
    state, seen = algorithm.init(setting, policy, jax.random.key(1)), []
    for i in range(iterations):
        state, metrics = iterate(algorithm, setting, state, jax.random.fold_in(jax.random.key(2), i))
        seen.append({name: float(value) for name, value in metrics.items()})
    return state, seen
