"""Experiments of meta-learning on small problems, and the table of methods that others are made by."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from surefoot.algorithms import (
    ANIL,
    CAVIA,
    EMAML,
    MAML,
    RL2,
    AbstractAlgorithm,
    Estimation,
    MetaSGD,
    Normalisation,
    ProMP,
    Reptile,
)
from surefoot.baselines import LinearFeatures
from surefoot.envs import Bandit, Navigation2D, TabularMDP, Trial
from surefoot.experiment.config import Config, Evaluation
from surefoot.policies import GRU, AttentionActorCritic, CategoricalMLP, GaussianMLP, RecurrentActorCritic
from surefoot.rules import GradientStep, PPOClip, TrustRegion

# Half the rate from the second step on, as in the paper, overshoots distant goals: see docs/results.md.
_NAVIGATION_MAML = MAML(inner=GradientStep(lr=(0.5, 0.17, 0.1)), outer=TrustRegion(max_kl=0.01), tasks=20)
NAVIGATION = Config(
    env=Navigation2D(),
    # In the paper's code the policy acts in [−1, 1] and the environment rescales that to its velocities.
    policy=GaussianMLP(hidden=(100, 100), activation="relu", action_scale=0.1),
    algorithm=_NAVIGATION_MAML,
    evaluation=Evaluation(episodes=40),
)
BANDIT = Config(
    env=Bandit(),
    policy=CategoricalMLP(hidden=()),
    algorithm=MAML(inner=GradientStep(lr=40.0), outer=TrustRegion(max_kl=0.01), tasks=40),
    estimation=Estimation(discount=1.0),
)
TABULAR_MDP = Config(
    env=TabularMDP(),
    policy=CategoricalMLP(hidden=(64,)),
    algorithm=MAML(inner=GradientStep(lr=10.0), outer=TrustRegion(max_kl=0.01), tasks=40),
    estimation=Estimation(discount=1.0),
)
# Duan et al. (2016b): 10 pulls of 5 arms, each an episode; 10 episodes of 10 steps in an MDP.
_BANDIT_TRIALS = Config(
    env=Trial(Bandit(arms=5, horizon=1), episodes=10),
    policy=GRU(units=64),
    algorithm=RL2(rule=TrustRegion(max_kl=0.02, damping=0.01), tasks=1000),
    estimation=Estimation(baseline=LinearFeatures(), gae_lambda=0.3, fit="previous-batch"),
    evaluation=Evaluation(tasks=1000, episodes=1, steps=9),
    episodes=1,
    iterations=300,
)
_MDP_TRIALS = replace(_BANDIT_TRIALS, env=Trial(TabularMDP(), episodes=10))
_RL2_PPO = RL2(
    rule=PPOClip(lr=2e-3, lr_end=0.0, decay_steps=1000, minibatches=8), entropy_bonus=0.005, tasks=1000
)
_BANDIT_PPO = replace(
    _BANDIT_TRIALS, policy=RecurrentActorCritic(), algorithm=_RL2_PPO, iterations=1000, checkpoint_every=100
)
_LONG_RL2 = RL2(
    rule=PPOClip(lr=2e-3, lr_end=0.0, decay_steps=400, epochs=4, minibatches=20),
    entropy_bonus=0.02,
    tasks=200,
)
# 100 pulls, with units that remember for long from the beginning: see docs/results.md.
_LONG_PPO = replace(
    _BANDIT_PPO,
    env=Trial(Bandit(arms=5, horizon=100), episodes=1),
    policy=RecurrentActorCritic(memory_span=100.0),
    algorithm=_LONG_RL2,
    estimation=replace(_BANDIT_TRIALS.estimation, gae_lambda=0.9),
    normalisation=Normalisation(rewards=True),
    evaluation=Evaluation(tasks=1000, episodes=1, steps=0),
    iterations=400,
)
# Attention finds what an action did in this state before, if a step shows the whole transition.
_MDP_PPO = replace(
    _BANDIT_PPO,
    env=Trial(TabularMDP(), episodes=10, previous_observation=True),
    policy=AttentionActorCritic(units=32, heads=2),
    algorithm=RL2(
        rule=PPOClip(lr=1e-3, lr_end=0.0, decay_steps=1000, epochs=3, minibatches=40),
        entropy_bonus=0.02,
        tasks=200,
    ),
    normalisation=Normalisation(rewards=True),
    iterations=1000,
)
_ATTENTION_RULE = PPOClip(lr=1e-3, lr_end=0.0, decay_steps=300, minibatches=8)


def by_gradient(environment: str, base: Config, without: Sequence[str] = ()) -> dict[str, Config]:
    """The presets of an environment for every method that adapts by gradient, made of that for MAML: the same
    inner rule, the same number of tasks and, where the method has no outer rule of its own, the same outer
    rule."""
    maml: Any = base.algorithm
    inner, shared = maml.inner, {"outer": maml.outer, "tasks": maml.tasks, "inner_steps": maml.inner_steps}
    own = {"tasks": maml.tasks}
    methods: dict[str, AbstractAlgorithm] = {
        "maml-trpo": maml,
        "fomaml-trpo": replace(maml, order="first"),
        "promp": ProMP(inner, inner_steps=maml.inner_steps, **own),
        # With the whole weight the term's variance hides MAML's gradient: see docs/results.md.
        "e-maml-trpo": EMAML(inner, exploration=0.01, **shared),
        "anil-trpo": ANIL(inner, **shared),
        # The bias of the log-likelihood's second derivative grows with the rates: see docs/results.md.
        "meta-sgd-trpo": MetaSGD(inner, inner_loss="surrogate", **shared),
        "reptile": Reptile(inner, **own),
        "cavia-trpo": CAVIA(GradientStep(lr=1.0), **shared),
    }
    return {
        f"{environment}/{label}": replace(base, algorithm=algorithm)
        for label, algorithm in methods.items()
        if label not in without
    }


META_LEARNING: dict[str, Config] = {
    **by_gradient("navigation-2d", NAVIGATION),
    # Its policy is one layer, all of which ANIL would adapt, and its observation is always the same.
    **by_gradient("bandit", BANDIT, without=("anil-trpo", "cavia-trpo")),
    "bandit/rl2-trpo": _BANDIT_TRIALS,
    "bandit/rl2-ppo": _BANDIT_PPO,
    "bandit/rl2-ppo-long": _LONG_PPO,
    "bandit/rl2-ppo-attention": replace(
        _BANDIT_TRIALS,
        policy=AttentionActorCritic(),
        algorithm=replace(_RL2_PPO, rule=_ATTENTION_RULE, entropy_bonus=0.01),
    ),
    **by_gradient("tabular-mdp", TABULAR_MDP),
    "tabular-mdp/rl2-trpo": _MDP_TRIALS,
    "tabular-mdp/rl2-ppo": replace(
        _MDP_PPO,
        policy=RecurrentActorCritic(memory_span=100.0),
        algorithm=_LONG_RL2,
        iterations=400,
    ),
    "tabular-mdp/rl2-ppo-attention": _MDP_PPO,
}
