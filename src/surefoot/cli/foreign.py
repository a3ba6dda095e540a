"""Names of other libraries that users know, and what they are called here.

SB3: Stable-Baselines3 and its rl-zoo. PyTorch-MAML-RL: tristandeleu/pytorch-maml-rl. ProMP:
jonasrothfuss/ProMP. Garage: rlworkgroup/garage.
"""

import re
from dataclasses import fields
from itertools import pairwise
from typing import Any

from surefoot.experiment import PRESETS, Config
from surefoot.options import UserError

_TIME = ("iterations", "surefoot counts iterations; one of this preset samples {samples}")
_RATE = ("rule.lr outer.lr step.lr", "")
_TRUST_REGION = ("rule.max-kl outer.max-kl", "")
_STOP_KL = ("rule.stop-kl outer.stop-kl rule.target-kl rule.max-kl outer.max-kl", "")
_PARALLEL = ("sampler.workers", "with --sampler processes")
_TASKS = ("tasks", "")
_EPISODES = ("episodes", "episodes of each task")
_INNER_STEPS = ("inner-steps", "")
_MINIBATCHES = ("rule.minibatches", "their number for each epoch, not their size")
_EPOCHS = ("rule.epochs outer.epochs", "")
_CLIP = ("rule.clip outer.clip", "")
_ENTROPY = ("entropy-bonus", "")
_NORMALISE = ("estimation.normalise", "")
_HIDDEN = ("policy.hidden", "")
_ACTIVATION = ("policy.activation", "")
_HORIZON = ("env.horizon env.time-limit", "")
_PRESET = ("", "environment and algorithm are one word: surefoot train ENVIRONMENT/ALGORITHM")
_OUT = ("out", "")

OPTIONS: dict[str, tuple[str, str]] = {
    # SB3
    "total-timesteps": _TIME,
    "n-timesteps": _TIME,
    "n-envs": ("streams", "the number of parallel environments"),
    "n-steps": ("steps", "steps of each stream"),
    "batch-size": _MINIBATCHES,
    "n-epochs": _EPOCHS,
    "clip-range": _CLIP,
    "ent-coef": _ENTROPY,
    "vf-coef": ("value-coefficient", ""),
    "learning-rate": _RATE,
    "target-kl": _STOP_KL,
    "max-grad-norm": ("rule.max-gradient-norm outer.max-gradient-norm step.max-gradient-norm", ""),
    "normalize-advantage": _NORMALISE,
    "net-arch": _HIDDEN,
    "activation-fn": _ACTIVATION,
    "log-folder": _OUT,
    "save-freq": ("checkpoint-every", "counted in iterations"),
    "eval-episodes": ("evaluation.episodes", ""),
    "n-eval-episodes": ("evaluation.episodes", ""),
    "algo": _PRESET,
    "env-id": _PRESET,
    "device": ("", "JAX chooses the device; the environment variable JAX_PLATFORMS=cpu forces the CPU"),
    # PyTorch-MAML-RL, from the command line of its first version and the files of its second
    "env-name": _PRESET,
    "fast-lr": ("inner.lr", ""),
    "fast-batch-size": _EPISODES,
    "meta-batch-size": _TASKS,
    "num-batches": ("iterations", ""),
    "num-steps": _INNER_STEPS,
    "num-layers": _HIDDEN,
    "hidden-size": _HIDDEN,
    "hidden-sizes": _HIDDEN,
    "nonlinearity": _ACTIVATION,
    "first-order": ("order", "--order first"),
    "gamma": ("estimation.discount", ""),
    "tau": ("estimation.gae-lambda", ""),
    "gae-lambda": ("estimation.gae-lambda", ""),
    "max-kl": _TRUST_REGION,
    "cg-iters": ("rule.cg-iterations outer.cg-iterations", ""),
    "cg-damping": ("rule.damping outer.damping", ""),
    "ls-max-steps": ("rule.max-backtracks outer.max-backtracks", ""),
    "ls-backtrack-ratio": ("rule.backtrack-ratio outer.backtrack-ratio", ""),
    "num-workers": _PARALLEL,
    "output-folder": _OUT,
    # ProMP
    "rollouts-per-meta-task": _EPISODES,
    "max-path-length": _HORIZON,
    "parallel": _PARALLEL,
    "inner-lr": ("inner.lr", ""),
    "num-inner-grad-steps": _INNER_STEPS,
    "clip-eps": _CLIP,
    "target-inner-step": ("target-kl", ""),
    "init-inner-kl-penalty": ("kl-coefficient", ""),
    "num-promp-steps": _EPOCHS,
    "n-itr": ("iterations", ""),
    "normalize-adv": _NORMALISE,
    "step-size": _TRUST_REGION,
    # Garage
    "discount": ("estimation.discount", ""),
    "epochs": ("iterations", ""),
    "num-grad-updates": _INNER_STEPS,
    "rollouts-per-task": _EPISODES,
    "episodes-per-task": _EPISODES,
    "max-kl-step": _TRUST_REGION,
    "max-episode-length": _HORIZON,
    "lr-clip-range": _CLIP,
    "policy-ent-coeff": _ENTROPY,
    "policy-lr": _RATE,
    "center-adv": _NORMALISE,
    "max-optimization-epochs": _EPOCHS,
    "minibatch-size": _MINIBATCHES,
    "n-workers": _PARALLEL,
}
"""An option of another library: those of ours that may take its place, and a remark."""

GYMNASIUM: dict[str, str] = {
    "CartPole": "cartpole",
    "Pendulum": "pendulum",
    "HalfCheetah": "half-cheetah",
    "Hopper": "hopper",
    "Walker2d": "walker2d",
    "Ant": "ant",
    "Humanoid": "humanoid",
    "Swimmer": "swimmer",
    "Reacher": "reacher",
    "InvertedPendulum": "inverted-pendulum",
    "InvertedDoublePendulum": "inverted-double-pendulum",
}
"""The environment of a preset for each of Gymnasium's, without the version."""

FAMILIES: dict[str, str] = {
    # PyTorch-MAML-RL
    "2DNavigation": "navigation-2d",
    "TabularMDP": "tabular-mdp",
    "Bandit-K5": "bandit",
    "Bandit-K10": "bandit",
    "Bandit-K50": "bandit",
    "AntPos": "ant-goal",
    # PyTorch-MAML-RL, and Garage with "Env" at the end
    "HalfCheetahDir": "half-cheetah-dir",
    "HalfCheetahVel": "half-cheetah-vel",
    "AntDir": "ant-dir",
    "AntVel": "ant-vel",
    # ProMP, with "Env" at the end
    "HalfCheetahRandDirec": "half-cheetah-dir",
    "HalfCheetahRandVel": "half-cheetah-vel",
    "AntRandDirec": "ant-dir",
    "AntRandGoal": "ant-goal",
    "HumanoidRandDirec2D": "humanoid-dir",
    "HopperRandParams": "hopper-params",
    "WalkerRandParamsWrapped": "walker2d-params",
}
"""The environment of a preset for each family of tasks of other libraries, without version and "Env"."""


PARTS: dict[str, str] = {
    # SB3, and Garage
    "ppo": "--algorithm single-task --rule ppo-clip",
    "trpo": "--algorithm single-task --rule trust-region",
    "vpg": "--algorithm single-task --rule optax-step",
    "a2c": "--algorithm single-task --policy actor-critic",
    "mlppolicy": "--policy actor-critic",
    "categoricalmlppolicy": "--policy categorical-mlp",
    "gaussianmlppolicy": "--policy gaussian-mlp",
    "gaussiangrupolicy": "--policy gru",
    # PyTorch-MAML-RL, ProMP and Garage
    "mamltrpo": "--algorithm maml --outer trust-region",
    "trpomaml": "--algorithm maml --outer trust-region",
    "mamlppo": "--algorithm maml --outer ppo-clip",
    "mamlvpg": "--algorithm maml --outer optax-step",
    "vpgmaml": "--algorithm maml --outer optax-step",
    "normalmlppolicy": "--policy gaussian-mlp",
    "metagaussianmlppolicy": "--policy gaussian-mlp",
}
"""The options for an algorithm or policy of another library, by its name in lower case."""


def refuse_foreign_names(words: list[str]) -> None:
    """Raises `UserError` with our names, if environments, algorithms or policies of other libraries are among
    the words of a command."""
    for option, value in pairwise(words):
        if option in ("--env", "--env-name", "--env-id"):
            refuse_foreign_env(value)
        if option in ("--algorithm", "--algo", "--policy") and value.lower() in PARTS:
            raise UserError(f"{value} is another library's name. Here it is {PARTS[value.lower()]}.")


def refuse_foreign_options(words: list[str], config: Config) -> None:
    """Raises `UserError` with our names, if options of other libraries are among the words of a command, and
    the configuration has no option of that name."""
    named = [word.partition("=")[0][2:].replace("_", "-") for word in words if word[:2] == "--"]
    unknown = [name for name in named if name in OPTIONS and not has_option(config, name)]
    if unknown:
        hints = [f"--{name}: {_hint(*OPTIONS[name], config)}" for name in unknown]
        raise UserError("\n".join(["These are options of other libraries. Here they are:", *hints]))


def refuse_foreign_env(name: str) -> None:
    """Raises `UserError` with the name of our preset, if this is an environment of another library."""
    env, _, algorithm = name.partition("/")
    bare = re.sub(r"(Env)?(-v\d+)?$", "", env)
    ours = (GYMNASIUM | FAMILIES).get(bare)
    if ours:
        known = [preset for preset in PRESETS if preset.split("/")[0] == ours]
        found = f"{ours}/{algorithm}" if f"{ours}/{algorithm}" in known else known[0]
        own = f", or gym:{env}/ppo for Gymnasium's own" if bare in GYMNASIUM and env != bare else ""
        raise UserError(f"{name} is another library's name. Here it is surefoot train {found}{own}.")


def has_option(config: Config, option: str) -> bool:
    """Whether a configuration has an option, named as on the command line."""
    names = option.replace("-", "_").split(".")
    holder: Any = config if hasattr(config, names[0]) else config.algorithm
    for name in names:
        if name not in {field.name for field in fields(holder)}:
            return False
        holder = getattr(holder, name)
    return True


def _hint(options: str, remark: str, config: Config) -> str:
    """Those of the options that the configuration has, or else all, and the remark."""
    ours = [option for option in options.split() if has_option(config, option)] or options.split()
    words = [" or ".join(f"--{option}" for option in ours)] if ours else []
    return "; ".join([*words, *([remark.format(samples=_samples(config))] if remark else [])])


def _samples(config: Config) -> str:
    """The data of one iteration, in words."""
    algorithm: Any = config.algorithm
    if has_option(config, "fragment"):
        steps = algorithm.fragment * algorithm.environments
        return f"{steps} environment steps for each of {algorithm.updates} gradients"
    if config.streams:
        return f"{config.streams * config.steps} environment steps"
    episodes = config.episodes * getattr(algorithm, "tasks", 1) * (1 + getattr(algorithm, "inner_steps", 0))
    return f"{episodes} episodes of at most {config.env.horizon} environment steps"
