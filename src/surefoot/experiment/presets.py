"""Experiments that are known to work, named ENVIRONMENT/ALGORITHM. The first of an environment is its
default."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from math import inf
from types import MappingProxyType
from typing import Any

from surefoot.algorithms import MAML, AbstractAlgorithm, ProMP, SingleTask
from surefoot.envs import AbstractFamily
from surefoot.envs.gymnasium_factory import GymnasiumFactory
from surefoot.experiment import parts
from surefoot.experiment.config import Config
from surefoot.experiment.games import ATARI, MINATAR
from surefoot.experiment.locomotion import LOCOMOTION
from surefoot.experiment.meta_learning import BANDIT, META_LEARNING, NAVIGATION, TABULAR_MDP
from surefoot.experiment.single_task import A3C_IN_MUJOCO, PENDULUM, SINGLE_TASK, bounded
from surefoot.options import UserError, check, must_be_one_of, suggestion
from surefoot.policies import CategoricalMLP, GaussianMLP, PolicyOptions
from surefoot.rules import GradientStep, TrustRegion
from surefoot.samplers import InProcess, Processes
from surefoot.samplers.base import is_traced
from surefoot.types import Continuous

_WHOLE = replace(
    PENDULUM,
    policy=GaussianMLP(initialiser="orthogonal", output_scale=0.01),
    streams=0,
    episodes=16,
    estimation=replace(PENDULUM.estimation, discount=0.99),
    iterations=100,
)
_META = replace(
    NAVIGATION,
    policy=GaussianMLP(),
    algorithm=MAML(inner=GradientStep(lr=0.1), outer=TrustRegion(max_kl=0.01), tasks=20),
)
_ANY = {
    **{label: bounded(_WHOLE)[label] for label in ("ppo", "trpo", "npg")},
    "maml-trpo": _META,
    "promp": replace(_META, algorithm=ProMP(inner=GradientStep(lr=0.1), tasks=20)),
}
"""Presets for environments that have none of their own."""
OPEN_PRESETS: dict[str, tuple[dict[str, Config], str]] = {
    "atari:GAME": (ATARI, "Any game of the Atari 2600, such as atari:Pong-v5/ppo."),
    "gym:ID": (_ANY, "Any environment that is registered with Gymnasium."),
    "gymnax:ID": (_ANY, "Any environment of gymnax, in JAX, such as gymnax:Acrobot-v1/ppo."),
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
    **SINGLE_TASK,
    **LOCOMOTION,
    **A3C_IN_MUJOCO,
    **MINATAR,
}
PRESETS = {name: replace(config, preset=name) for name, config in PRESETS.items()}


def preset(name: str) -> Config:
    """The preset of that name; an environment alone means the first of its presets. For any other
    environment, `gym:ID/ALGORITHM` or another of `OPEN_PRESETS`. Raises `UserError`."""
    if ":" in name:
        return _of_any(name)
    first = {key.split("/")[0]: key for key in reversed(PRESETS)}
    must_be_one_of("preset", name, [*PRESETS, *first], "`surefoot list presets` shows them all.")
    return PRESETS[first.get(name, name)]


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
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Config:
    """The configuration of a preset's name, of another configuration, or of parts, as `Learner` takes them,
    with other values of some `options`. Raises `UserError`."""
    if experiment is None:
        config = _of_parts(env, "ppo" if algorithm is None else algorithm)
    else:
        check(isinstance(experiment, str | Config), "experiment", experiment, "a preset's name or a Config")
        config = experiment if isinstance(experiment, Config) else preset(experiment)
        given = {"env": None if env is None else _environment(env), "algorithm": algorithm}
        config = replace(config, **{name: part for name, part in given.items() if part is not None})
    if policy is not None:
        config = replace(config, policy=parts.make("policies", policy) if isinstance(policy, str) else policy)
    return with_decay(with_options(config, options), config)


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


def with_decay(config: Config, before: Config) -> Config:
    """The configuration with `decay_steps` set to its number of iterations, if that was so in `before`, the
    configuration before its options were changed."""
    name, rule = decaying_rule(config)
    was, old = decaying_rule(before)
    if (
        rule is None
        or old is None
        or is_traced(rule)
        or (name, type(rule), rule.decay_steps) != (was, type(old), old.decay_steps)
        or old.decay_steps != before.iterations
    ):
        return config
    ended = replace(rule, decay_steps=config.iterations)
    return replace(config, algorithm=replace(config.algorithm, **{name: ended}))  # type: ignore[type-var]


def decaying_rule(config: Config) -> tuple[str, Any]:
    """The name of the algorithm's option whose rule has a learning rate that decays, and that rule;
    `("", None)` if there is none."""
    for name in ("rule", "outer"):
        rule = getattr(config.algorithm, name, None)
        if getattr(rule, "lr_end", None) is not None:
            return name, rule
    return "", None


def rate_ends(config: Config) -> tuple[str, int | float]:
    """The option that has the rule whose learning rate comes to 0, and the iteration after which it is 0;
    `inf` of a rate that does not."""
    name, rule = decaying_rule(config)
    return (name, rule.decay_steps) if rule is not None and rule.lr_end == 0 else ("", inf)


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """The configuration with other values of some options, named as on the command line: `rule.lr`,
    `estimation.discount`. Raises `UserError` for a name that is no option."""
    for name, value in options.items():
        config = with_option(config, name.replace("-", "_").split("."), value, f"option {name}")
    return config


def with_option(holder: Any, path: list[str], value: Any, name: str) -> Any:
    """A copy of `holder` with `value` at `path`. What a `Config` does not have is looked for in its
    algorithm. Raises `UserError` if there is no such option; `name` stands for it in the message."""
    first, *rest = path
    if first not in option_names(holder):
        if isinstance(holder, Config):
            return replace(holder, algorithm=with_option(holder.algorithm, path, value, name))
        raise UserError(f"This preset's {parts.name_of(holder)} has no {name}.")
    if rest:
        value = with_option(getattr(holder, first), rest, value, name)
    return replace(holder, **{first: value})


def option_names(holder: Any) -> list[str]:
    """The names of the options of `holder`; none of a value."""
    return [field.name for field in fields(holder)] if is_dataclass(holder) else []
