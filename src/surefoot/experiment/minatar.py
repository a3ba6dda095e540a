"""Experiments on the games of MinAtar (Young & Tian, 2019): images of 10 × 10 pixels, in pure JAX."""

from dataclasses import replace

from surefoot.algorithms import Estimation, SingleTask
from surefoot.baselines import ValueNetwork, Zero
from surefoot.envs import Gymnax
from surefoot.experiment.config import Config, Evaluation
from surefoot.policies import ActorCritic, CategoricalMLP
from surefoot.rules import OptaxStep, PPOClip, TrustRegion

# 5 million steps.
_BASE = Config(
    env=Gymnax("Breakout-MinAtar"),
    policy=ActorCritic(hidden=(128,), activation="relu"),
    algorithm=SingleTask(),
    estimation=Estimation(baseline=Zero(), gae_lambda=0.95, fit="previous-batch"),
    evaluation=Evaluation(tasks=1, episodes=100),
    streams=64,
    steps=128,
    iterations=610,
    checkpoint_every=100,
)
_RULE = PPOClip(lr=5e-3, lr_end=0.0, decay_steps=_BASE.iterations, epochs=4, minibatches=8)
_CRITIC = ValueNetwork(hidden=(128,), activation="relu", lr=5e-3, epochs=4, minibatches=8)
_ALGORITHMS = {
    "ppo": replace(_BASE, algorithm=SingleTask(_RULE, entropy_bonus=0.01)),
    # The Fisher matrix is blind to a critic's values, so the value function is a network of its own.
    "trpo": replace(
        _BASE,
        policy=CategoricalMLP(hidden=(128,), activation="relu", initialiser="orthogonal", output_scale=0.01),
        algorithm=SingleTask(TrustRegion(max_kl=0.01, damping=0.01), entropy_bonus=0.01),
        estimation=replace(_BASE.estimation, baseline=_CRITIC),
    ),
    "a2c": replace(
        _BASE,
        algorithm=SingleTask(
            OptaxStep("rmsprop", lr=1e-3, max_gradient_norm=0.5), "reinforce", entropy_bonus=0.01
        ),
        steps=16,
        iterations=4883,
        checkpoint_every=1000,
    ),
}
_GAMES = ("Breakout", "Asterix", "Freeway", "Seaquest", "SpaceInvaders")

MINATAR: dict[str, Config] = {
    f"{game.lower()}-minatar/{label}": replace(config, env=Gymnax(f"{game}-MinAtar"))
    for game in _GAMES
    for label, config in _ALGORITHMS.items()
}
