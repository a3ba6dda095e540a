"""Experiments on games: those of MinAtar (Young & Tian, 2019), 10 × 10 pixels in pure JAX, and Atari's."""

from dataclasses import replace

from surefoot.algorithms import Estimation, Normalisation, SingleTask
from surefoot.baselines import ValueNetwork, Zero
from surefoot.envs import Atari, Gymnax
from surefoot.experiment.config import Config, Evaluation
from surefoot.policies import ActorCritic, CategoricalMLP
from surefoot.rules import (
    AbstractRule,
    NaturalGradient,
    OptaxStep,
    PPOClip,
    PPOPenalty,
    TrustRegion,
    TrustRegionPenalty,
)

_TRUST_REGION = TrustRegion(max_kl=0.01, damping=0.01)


def _trpo(
    base: Config, units: int, lr: float, minibatches: int, rule: AbstractRule = _TRUST_REGION
) -> Config:
    """A rule that measures by the Fisher matrix, which is blind to a critic's values: the value function is a
    network of its own."""
    critic = ValueNetwork(hidden=(units,), activation="relu", lr=lr, epochs=4, minibatches=minibatches)
    return replace(
        base,
        policy=CategoricalMLP(
            hidden=(units,), activation="relu", initialiser="orthogonal", output_scale=0.01
        ),
        algorithm=SingleTask(rule, entropy_bonus=0.01),
        estimation=replace(base.estimation, baseline=critic),
    )


def _a2c(base: Config, lr: float, streams: int, steps: int, iterations: int) -> Config:
    rule = OptaxStep("rmsprop", lr=lr, max_gradient_norm=0.5)
    return replace(
        base,
        algorithm=SingleTask(rule, "reinforce", entropy_bonus=0.01),
        streams=streams,
        steps=steps,
        iterations=iterations,
        checkpoint_every=1000,
    )


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
_EPOCHS = {"lr": 5e-3, "lr_end": 0.0, "decay_steps": _BASE.iterations, "epochs": 4, "minibatches": 8}
_ALGORITHMS = {
    "ppo": replace(_BASE, algorithm=SingleTask(PPOClip(**_EPOCHS), entropy_bonus=0.01)),
    "trpo": _trpo(_BASE, units=128, lr=5e-3, minibatches=8),
    "a2c": _a2c(_BASE, lr=1e-3, streams=64, steps=16, iterations=4883),
}
_OF_BREAKOUT = {
    "ppo-penalty": replace(_BASE, algorithm=SingleTask(PPOPenalty(**_EPOCHS), entropy_bonus=0.01)),
    "npg": _trpo(_BASE, 128, 5e-3, 8, NaturalGradient(max_kl=0.005, damping=0.01)),
    "trpo-penalty": _trpo(_BASE, 128, 5e-3, 8, TrustRegionPenalty(beta=10.0, target_kl=0.005, damping=0.01)),
}
"""The rest of the family, for one game."""
_GAMES = ("Breakout", "Asterix", "Freeway", "Seaquest", "SpaceInvaders")

MINATAR: dict[str, Config] = {
    f"{game.lower()}-minatar/{label}": replace(config, env=Gymnax(f"{game}-MinAtar"))
    for game in _GAMES
    for label, config in (_ALGORITHMS | (_OF_BREAKOUT if game == "Breakout" else {})).items()
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
    "trpo": _trpo(_GAME, units=512, lr=2.5e-4, minibatches=4),
    "a2c": _a2c(_GAME, lr=7e-4, streams=16, steps=5, iterations=25_000),
}
"""Presets of a game, `atari:GAME/ALGORITHM`. Nothing was tuned."""
