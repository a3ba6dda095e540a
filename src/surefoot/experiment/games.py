"""Experiments on games: those of MinAtar (Young & Tian, 2019), 10 × 10 pixels in pure JAX, and Atari's."""

from dataclasses import replace

from surefoot.algorithms import Estimation, Normalisation, SingleTask
from surefoot.baselines import ValueNetwork, Zero
from surefoot.envs import Atari, Gymnax
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

# 2 million steps. PPO has the sizes and rates of OpenAI's baselines (Dhariwal et al., 2017), A2C those of
# Stable-Baselines3. Both clip rewards; here they are divided by the standard deviation of returns.
_GAME = replace(
    _BASE,
    env=Atari(),
    policy=ActorCritic(hidden=(512,), activation="relu"),
    normalisation=Normalisation(rewards=True),
    evaluation=Evaluation(tasks=1, episodes=4, horizon=5000),
    streams=8,
    iterations=1953,
)
ATARI: dict[str, Config] = {
    "ppo": replace(
        _GAME,
        algorithm=SingleTask(
            PPOClip(lr=2.5e-4, lr_end=0.0, decay_steps=_GAME.iterations, clip=0.1, epochs=4, minibatches=4),
            entropy_bonus=0.01,
        ),
    ),
    "trpo": replace(
        _GAME,
        policy=CategoricalMLP(hidden=(512,), activation="relu", initialiser="orthogonal", output_scale=0.01),
        algorithm=_ALGORITHMS["trpo"].algorithm,
        estimation=replace(
            _BASE.estimation,
            baseline=ValueNetwork(hidden=(512,), activation="relu", lr=2.5e-4, epochs=4, minibatches=4),
        ),
    ),
    "a2c": replace(
        _GAME,
        algorithm=SingleTask(
            OptaxStep("rmsprop", lr=7e-4, max_gradient_norm=0.5), "reinforce", entropy_bonus=0.01
        ),
        streams=16,
        steps=5,
        iterations=25_000,
        checkpoint_every=1000,
    ),
}
"""Presets of a game, `atari:GAME/ALGORITHM`. Nothing was tuned."""
