"""Experiments on one small task, by the whole policy-gradient family."""

from dataclasses import replace
from typing import Any

from surefoot.algorithms import (
    A3C,
    Estimation,
    Normalisation,
    OffPolicyReinforce,
    Reinforce,
    SingleTask,
)
from surefoot.baselines import LinearFeatures, ValueNetwork, Zero
from surefoot.envs import Gymnasium, Gymnax, InvertedPendulum, Recall
from surefoot.experiment.config import Config, Evaluation
from surefoot.experiment.meta_learning import NAVIGATION
from surefoot.policies import GRU, ActorCritic, CategoricalMLP, GaussianMLP
from surefoot.rules import (
    AbstractRule,
    NaturalGradient,
    OptaxStep,
    PPOClip,
    PPOPenalty,
    TrustRegion,
    TrustRegionPenalty,
)
from surefoot.samplers import Processes

_CARTPOLE = Config(
    env=Gymnax("CartPole-v1"),
    policy=CategoricalMLP(initialiser="orthogonal", output_scale=0.01),
    algorithm=SingleTask(),
    estimation=Estimation(baseline=ValueNetwork(minibatches=16), gae_lambda=0.95, fit="previous-batch"),
    evaluation=Evaluation(tasks=1, episodes=100),
    streams=8,
    steps=256,
    iterations=48,
)
_GAUSSIAN = GaussianMLP(initialiser="orthogonal", output_scale=0.01)
PENDULUM = replace(
    _CARTPOLE,
    env=Gymnax("Pendulum-v1"),
    policy=replace(_GAUSSIAN, action_scale=2.0),  # torques are between ±2
    estimation=replace(_CARTPOLE.estimation, baseline=ValueNetwork(minibatches=64), discount=0.95),
    normalisation=Normalisation(observations=True, rewards=True),
    streams=16,
    iterations=122,
)
_NAVIGATION_ALONE = replace(NAVIGATION, evaluation=Evaluation(tasks=1, episodes=100))
# An actor-critic's values do not know the time: where it ends the return, they are wrong.
_NAVIGATION_ENDLESS = replace(_NAVIGATION_ALONE, estimation=Estimation(discount=0.9, time_limit="bootstraps"))
# The paper's rate is for millions of frames; a value loss of weight ½ would fill the clipped gradient.
_A3C_RULE = A3C(step=OptaxStep("rmsprop", lr=2e-3, max_gradient_norm=0.5), value_coefficient=0.02)
_A3C = replace(
    _CARTPOLE,
    env=Gymnasium("CartPole-v1"),
    policy=ActorCritic(),
    algorithm=_A3C_RULE,
    estimation=Estimation(baseline=Zero(), fit="previous-batch"),
    sampler=Processes(),
    streams=0,
    iterations=50,
)
_INVERTED_PENDULUM = replace(
    _A3C,
    env=InvertedPendulum(),
    algorithm=replace(_A3C_RULE, step=replace(_A3C_RULE.step, lr=1e-3)),
)
_RECALL = replace(
    _CARTPOLE,
    env=Recall(),
    policy=GRU(),
    estimation=Estimation(baseline=LinearFeatures()),
    streams=0,
    episodes=64,
    iterations=200,
)


def bounded(base: Config, entropy_bonus: float = 0.0) -> dict[str, Config]:
    """Steps that keep near the policy that drew the data."""
    decay = {"lr": 1e-3, "lr_end": 0.0, "decay_steps": base.iterations}
    rules: dict[str, AbstractRule] = {
        "ppo": PPOClip(minibatches=32, **decay),
        "ppo-penalty": PPOPenalty(minibatches=32, **decay),
        "trpo": TrustRegion(max_kl=0.01, damping=0.01),
        "trpo-penalty": TrustRegionPenalty(beta=10.0, target_kl=0.005, damping=0.01),
        "npg": NaturalGradient(max_kl=0.005, damping=0.01),  # nothing checks its step
    }
    return {
        label: replace(base, algorithm=SingleTask(rule, entropy_bonus=entropy_bonus))
        for label, rule in rules.items()
    }


def _plain(base: Config) -> dict[str, Config]:
    """One gradient step, or a few, for each batch: too few for Pendulum, see docs/results.md."""
    whole = replace(base, streams=0)
    vanilla = replace(base, algorithm=SingleTask(rule=OptaxStep(lr=1e-2)))
    return {
        "vpg": replace(vanilla, estimation=replace(base.estimation, gae_lambda=1.0)),
        "vpg-gae": replace(vanilla, estimation=replace(base.estimation, gae_lambda=0.95)),
        "reinforce": replace(
            whole,
            algorithm=Reinforce(step=OptaxStep(lr=1e-2)),
            estimation=Estimation(Zero(), credit="whole-return", normalise=False),
        ),
        "off-policy-reinforce": replace(
            whole,
            algorithm=OffPolicyReinforce(
                OptaxStep(lr=1.5e-3), gradient_steps=3, clip=5.0, self_normalised=True
            ),
            estimation=Estimation(normalise=False),
        ),
    }


def _a2c(base: Config, iterations: int, entropy_bonus: float = 0.0, initial_std: float = 1.0) -> Config:
    """Many small batches, each for one gradient step of an actor-critic network."""
    step = OptaxStep(lr=1e-3, max_gradient_norm=0.5)
    return replace(
        base,
        policy=ActorCritic(initial_std=initial_std),
        algorithm=SingleTask(step, "reinforce", entropy_bonus=entropy_bonus),
        estimation=replace(base.estimation, baseline=Zero(), gae_lambda=0.95, fit="previous-batch"),
        # Values of another scale than the advantages' would drown them in the network they share.
        normalisation=replace(base.normalisation, rewards=True),
        streams=16,
        steps=16,
        iterations=iterations,
        checkpoint_every=200,
    )


def _a3c(base: Config) -> dict[str, Config]:
    """A3C, and its synchronous twin."""
    algorithm: Any = base.algorithm
    return {"a3c": base, "a3c-synchronous": replace(base, algorithm=replace(algorithm, synchronous=True))}


_FAMILIES: dict[str, dict[str, Config]] = {
    "cartpole": {
        **bounded(_CARTPOLE),
        **_plain(_CARTPOLE),
        "a2c": _a2c(_CARTPOLE, 1953, 0.01),
        **_a3c(_A3C),
    },
    # Without the bonus, now and then a policy is certain before it can swing up from everywhere.
    "pendulum": {**bounded(PENDULUM, 0.01), "a2c": _a2c(PENDULUM, 3906)},
    "navigation-2d": {
        **bounded(_NAVIGATION_ALONE),
        **_plain(_NAVIGATION_ALONE),
        "a2c": _a2c(_NAVIGATION_ENDLESS, 1600, initial_std=0.1),
    },
    "recall": {
        "ppo": replace(_RECALL, algorithm=SingleTask(rule=PPOClip(lr=3e-3))),
        "trpo": replace(_RECALL, algorithm=SingleTask(rule=TrustRegion(max_kl=0.01, damping=0.01))),
    },
}
SINGLE_TASK: dict[str, Config] = {
    f"{env}/{label}": config for env, family in _FAMILIES.items() for label, config in family.items()
}
A3C_IN_MUJOCO = {f"inverted-pendulum/{label}": config for label, config in _a3c(_INVERTED_PENDULUM).items()}
