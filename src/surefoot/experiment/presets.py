"""Experiments that are known to work, named ENVIRONMENT/ALGORITHM. The first of an environment is its
default."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from surefoot.algorithms import (
    A3C,
    MAML,
    AbstractAlgorithm,
    Estimation,
    Normalisation,
    OffPolicyReinforce,
    ProMP,
    Reinforce,
    SingleTask,
)
from surefoot.baselines import LinearFeatures, ValueNetwork, Zero
from surefoot.envs import AbstractFamily, Gymnasium, Gymnax, Recall
from surefoot.envs.gymnasium_factory import GymnasiumFactory
from surefoot.experiment import parts
from surefoot.experiment.config import Config, Evaluation
from surefoot.experiment.games import ATARI, MINATAR
from surefoot.experiment.locomotion import LOCOMOTION
from surefoot.experiment.meta_learning import BANDIT, META_LEARNING, NAVIGATION, TABULAR_MDP
from surefoot.options import UserError, check, suggestion
from surefoot.policies import (
    GRU,
    ActorCritic,
    CategoricalMLP,
    GaussianMLP,
    PolicyOptions,
)
from surefoot.rules import (
    AbstractRule,
    GradientStep,
    NaturalGradient,
    OptaxStep,
    PPOClip,
    PPOPenalty,
    TrustRegion,
    TrustRegionPenalty,
)
from surefoot.samplers import InProcess, Processes
from surefoot.types import Continuous

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
_CONTINUOUS = GaussianMLP(initialiser="orthogonal", output_scale=0.01)
_PENDULUM = replace(
    _CARTPOLE,
    env=Gymnax("Pendulum-v1"),
    policy=replace(_CONTINUOUS, action_scale=2.0),  # torques are between ±2
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
_RECALL = replace(
    _CARTPOLE,
    env=Recall(),
    policy=GRU(),
    estimation=Estimation(baseline=LinearFeatures()),
    streams=0,
    episodes=64,
    iterations=200,
)


def _bounded(base: Config, entropy_bonus: float = 0.0) -> dict[str, Config]:
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


_FAMILIES = {
    "cartpole": {
        **_bounded(_CARTPOLE),
        **_plain(_CARTPOLE),
        "a2c": _a2c(_CARTPOLE, 1953, 0.01),
        "a3c": _A3C,
        "a3c-synchronous": replace(_A3C, algorithm=replace(_A3C_RULE, synchronous=True)),
    },
    # Without the bonus, now and then a policy is certain before it can swing up from everywhere.
    "pendulum": {**_bounded(_PENDULUM, 0.01), "a2c": _a2c(_PENDULUM, 3906)},
    "navigation-2d": {
        **_bounded(_NAVIGATION_ALONE),
        **_plain(_NAVIGATION_ALONE),
        "a2c": _a2c(_NAVIGATION_ENDLESS, 1600, initial_std=0.1),
    },
    "recall": {
        "ppo": replace(_RECALL, algorithm=SingleTask(rule=PPOClip(lr=3e-3))),
        "trpo": replace(_RECALL, algorithm=SingleTask(rule=TrustRegion(max_kl=0.01, damping=0.01))),
    },
}
_WHOLE = replace(
    _PENDULUM,
    policy=_CONTINUOUS,
    streams=0,
    episodes=16,
    estimation=replace(_PENDULUM.estimation, discount=0.99),
    iterations=100,
)
_META = replace(
    NAVIGATION,
    policy=GaussianMLP(),
    algorithm=MAML(inner=GradientStep(lr=0.1), outer=TrustRegion(max_kl=0.01), tasks=20),
)
_ANY = {
    **{label: _bounded(_WHOLE)[label] for label in ("ppo", "trpo", "npg")},
    "maml-trpo": _META,
    "promp": replace(_META, algorithm=ProMP(inner=GradientStep(lr=0.1), tasks=20)),
}
"""Presets for environments that have none of their own."""
OPEN_PRESETS: dict[str, tuple[dict[str, Config], str]] = {
    "atari:GAME": (ATARI, "Any game of the Atari 2600, such as atari:Pong-v5/ppo."),
    "gym:ID": (_ANY, "Any environment that is registered with Gymnasium."),
    "MODULE:NAME": (
        _ANY,
        "An environment of your own, or a function that makes one of Gymnasium's.",
    ),
}
"""For kinds of environments their presets, and a line about them."""
PRESETS: dict[str, Config] = {
    **META_LEARNING,
    "bandit/trpo": replace(BANDIT, algorithm=SingleTask(rule=TrustRegion(max_kl=0.01))),
    "tabular-mdp/trpo": replace(TABULAR_MDP, algorithm=SingleTask(rule=TrustRegion(max_kl=0.01))),
    **{f"{env}/{label}": config for env, family in _FAMILIES.items() for label, config in family.items()},
    **LOCOMOTION,
    **MINATAR,
}
PRESETS = {name: replace(config, preset=name) for name, config in PRESETS.items()}


def preset(name: str) -> Config:
    """The preset of that name; an environment alone means the first of its presets. For any other
    environment, `gym:ID/ALGORITHM` or `MODULE:CLASS/ALGORITHM`. Raises `UserError`."""
    if name in PRESETS:
        return PRESETS[name]
    of_environment = [key for key in PRESETS if key.split("/")[0] == name]
    if of_environment:
        return PRESETS[of_environment[0]]
    if ":" in name:
        return _of_any(name)
    environments = [key.split("/")[0] for key in PRESETS]
    raise UserError(
        f"There is no preset {name!r}.{suggestion(name, [*PRESETS, *environments])} "
        "`surefoot list presets` shows them all."
    )


def _of_any(name: str) -> Config:
    """For an environment of which only the spaces are known."""
    environment, slash, algorithm = name.rpartition("/")
    start = ATARI if name.startswith("atari:") else _ANY
    if not slash or algorithm not in start:
        environment, algorithm = name, "ppo"
    env = parts.make("envs", environment)
    if start is ATARI:
        return replace(ATARI[algorithm], env=env, preset=f"{environment}/{algorithm}")
    sampler = InProcess() if env.is_traceable else Processes()
    config = replace(_ANY[algorithm], env=env, sampler=sampler, preset=f"{environment}/{algorithm}")
    return replace(config, policy=_policy_for(env, config))


def _policy_for(env: AbstractFamily, config: Config) -> PolicyOptions:
    """A perceptron for the environment's actions, in the form that the algorithm starts from."""
    kind = GaussianMLP if isinstance(env.action_space, Continuous) else CategoricalMLP
    return kind() if config.algorithm.adapts else kind(initialiser="orthogonal", output_scale=0.01)


def configure(
    experiment: str | Config | None = None,
    *,
    env: Any = None,
    algorithm: AbstractAlgorithm | str | None = None,
    policy: PolicyOptions | str | None = None,
    **fields: Any,
) -> Config:
    """The configuration of a preset's name, of another configuration, or of parts, as `Learner` takes them.
    Raises `UserError`."""
    if experiment is None:
        config = _of_parts(env, "ppo" if algorithm is None else algorithm)
    else:
        check(isinstance(experiment, str | Config), "experiment", experiment, "a preset's name or a Config")
        config = experiment if isinstance(experiment, Config) else preset(experiment)
        given = {"env": None if env is None else _environment(env), "algorithm": algorithm}
        config = replace(config, **{name: part for name, part in given.items() if part is not None})
    if policy is not None:
        config = replace(config, policy=parts.make("policies", policy) if isinstance(policy, str) else policy)
    return with_options(config, fields)


def _of_parts(env: Any, algorithm: AbstractAlgorithm | str) -> Config:
    if env is None:
        raise UserError("A learner needs a preset, a configuration or an environment: Learner(env=…).")
    family = _environment(env)
    if isinstance(algorithm, str):
        if algorithm not in _ANY:
            near = suggestion(algorithm, _ANY)
            raise UserError(
                f"There is no algorithm {algorithm!r} for any environment.{near} There are "
                f"{', '.join(_ANY)}; others are objects, as algorithm=surefoot.MAML()."
            )
        config = replace(_ANY[algorithm], env=family)
    else:
        wanted = f"an object, as surefoot.MAML(), or one of {', '.join(_ANY)}"
        check(isinstance(algorithm, AbstractAlgorithm), "algorithm", algorithm, wanted)
        base = _META if algorithm.adapts else _WHOLE
        config = replace(base, env=family, algorithm=algorithm)
    return replace(config, policy=_policy_for(family, config), preset="custom")


def _environment(env: Any) -> AbstractFamily:
    """An environment of the library's, or of the user's own, or whatever makes one of Gymnasium's. Raises
    `UserError`."""
    if isinstance(env, str):
        return parts.make("envs", env)
    if isinstance(env, type) and issubclass(env, AbstractFamily):
        env = env()
    if isinstance(env, AbstractFamily):
        return env
    check(callable(env), "env", env, "an environment, its name, or a function that makes one of Gymnasium's")
    return GymnasiumFactory(env)


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """The configuration with other values of some options, named as on the command line: `rule.lr`,
    `estimation.discount`. Raises `UserError` for a name that is no option."""
    for name, value in options.items():
        config = with_option(config, name.replace("-", "_").split("."), value, f"option {name}")
    return config


def with_option(holder: Any, path: list[str], value: Any, name: str) -> Any:
    """The options `holder` with another value of the one at `path`; of a configuration that may be one of its
    algorithm. Raises `UserError` if there is none; `name` is its name there."""
    first, *rest = path
    if first not in [field.name for field in fields(holder)]:
        if isinstance(holder, Config):
            return replace(holder, algorithm=with_option(holder.algorithm, path, value, name))
        raise UserError(f"This preset's {parts.name_of(holder)} has no {name}.")
    if rest:
        value = with_option(getattr(holder, first), rest, value, name)
    return replace(holder, **{first: value})
