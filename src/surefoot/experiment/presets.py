"""Experiments that are known to work, named ENVIRONMENT/ALGORITHM. The first of an environment is its
default."""

from dataclasses import replace

from surefoot.algorithms import Estimation, Meta, SingleTask
from surefoot.envs import Bandit, Navigation2D, TabularMDP
from surefoot.experiment.config import Config, Evaluation
from surefoot.options import UserError, suggestion
from surefoot.policies import CategoricalMLP, GaussianMLP
from surefoot.rules import GradientStep, TrustRegion

# Half the rate from the second step on, as in the paper, overshoots distant goals: see docs/results.md.
_NAVIGATION_MAML = Meta(inner=GradientStep(lr=(0.5, 0.17, 0.1)), outer=TrustRegion(max_kl=0.01), tasks=20)
_NAVIGATION = Config(
    env=Navigation2D(),
    # In the paper's code the policy acts in [−1, 1] and the environment rescales that to its velocities.
    policy=GaussianMLP(hidden=(100, 100), activation="relu", action_scale=0.1),
    algorithm=_NAVIGATION_MAML,
    evaluation=Evaluation(episodes=40),
)
_BANDIT = Config(
    env=Bandit(),
    policy=CategoricalMLP(hidden=()),
    algorithm=Meta(inner=GradientStep(lr=40.0), outer=TrustRegion(max_kl=0.01), tasks=40),
    estimation=Estimation(discount=1.0),
)
_TABULAR = Config(
    env=TabularMDP(),
    policy=CategoricalMLP(hidden=(64,)),
    algorithm=Meta(inner=GradientStep(lr=10.0), outer=TrustRegion(max_kl=0.01), tasks=40),
    estimation=Estimation(discount=1.0),
)


PRESETS: dict[str, Config] = {
    "navigation-2d/maml-trpo": _NAVIGATION,
    "navigation-2d/fomaml-trpo": replace(_NAVIGATION, algorithm=replace(_NAVIGATION_MAML, order="first")),
    "navigation-2d/trpo": replace(_NAVIGATION, algorithm=SingleTask(rule=TrustRegion(max_kl=0.01))),
    "bandit/maml-trpo": _BANDIT,
    "bandit/trpo": replace(_BANDIT, algorithm=SingleTask(rule=TrustRegion(max_kl=0.01))),
    "tabular-mdp/maml-trpo": _TABULAR,
    "tabular-mdp/trpo": replace(_TABULAR, algorithm=SingleTask(rule=TrustRegion(max_kl=0.01))),
}
PRESETS = {name: replace(config, preset=name) for name, config in PRESETS.items()}


def preset(name: str) -> Config:
    """The preset of that name; an environment alone means the first of its presets. Raises `UserError`."""
    if name in PRESETS:
        return PRESETS[name]
    of_environment = [key for key in PRESETS if key.split("/")[0] == name]
    if of_environment:
        return PRESETS[of_environment[0]]
    environments = [key.split("/")[0] for key in PRESETS]
    raise UserError(
        f"There is no preset {name!r}.{suggestion(name, [*PRESETS, *environments])} "
        "`surefoot list presets` shows them all."
    )
