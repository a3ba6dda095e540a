"""Experiments in MuJoCo: the plain tasks of Gymnasium, and meta-learning on families of them."""

from dataclasses import replace

from surefoot import envs
from surefoot.algorithms import MAML, Estimation, Normalisation, SingleTask
from surefoot.baselines import LinearFeatures, ValueNetwork
from surefoot.experiment.config import Config, Evaluation
from surefoot.experiment.parts import kebab
from surefoot.policies import GaussianMLP
from surefoot.rules import GradientStep, PPOClip, TrustRegion

_PLAIN = Config(
    env=envs.HalfCheetah(),
    policy=GaussianMLP(initialiser="orthogonal", output_scale=0.01),
    algorithm=SingleTask(),
    estimation=Estimation(baseline=ValueNetwork(minibatches=32), gae_lambda=0.95, fit="previous-batch"),
    normalisation=Normalisation(observations=True, rewards=True),
    evaluation=Evaluation(tasks=1, episodes=20),
    streams=8,
    steps=256,
    iterations=488,
    checkpoint_every=50,
)
_PPO = PPOClip(minibatches=32, lr=3e-4, lr_end=0.0, decay_steps=_PLAIN.iterations)
_TRPO = TrustRegion(max_kl=0.01, damping=0.1)
# Rate, step and batch are the paper's. The other settings reduce the gradient's noise: see docs/results.md.
_META = Config(
    env=envs.HalfCheetahDir(),
    policy=GaussianMLP(hidden=(64, 64), initial_std=0.4),
    algorithm=MAML(
        inner=GradientStep(lr=0.1), outer=TrustRegion(max_kl=0.01, damping=0.1), inner_steps=1, tasks=40
    ),
    estimation=Estimation(baseline=LinearFeatures(), gae_lambda=0.8),
    normalisation=Normalisation(observations=True),
    evaluation=Evaluation(tasks=40, episodes=20),
    episodes=20,
    iterations=300,
)
_PLAIN_TASKS = (
    envs.HalfCheetah(),
    envs.Hopper(),
    envs.Walker2d(),
    envs.Ant(),
    envs.Humanoid(),
    envs.Swimmer(),
    envs.Reacher(),
    envs.InvertedPendulum(),
    envs.InvertedDoublePendulum(),
)
_FAMILIES = (
    envs.HalfCheetahDir(),
    envs.HalfCheetahVel(),
    envs.AntDir(),
    envs.AntVel(),
    envs.AntGoal(),
    envs.Walker2dParams(),
    envs.HopperParams(),
    envs.HumanoidDir(),
)


def _presets(algorithm: str, base: Config, tasks: tuple[envs.AbstractFamily, ...]) -> dict[str, Config]:
    return {f"{kebab(type(env).__name__)}/{algorithm}": replace(base, env=env) for env in tasks}


LOCOMOTION: dict[str, Config] = {
    **_presets("trpo", replace(_PLAIN, algorithm=SingleTask(_TRPO)), _PLAIN_TASKS),
    **_presets("ppo", replace(_PLAIN, algorithm=SingleTask(_PPO)), _PLAIN_TASKS),
    **_presets("maml-trpo", _META, _FAMILIES),
}
