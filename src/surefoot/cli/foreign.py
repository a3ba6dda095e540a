"""Names of other libraries that users know, and what they are called here.

They are those of Stable-Baselines3, its contrib package and its rl-zoo, rejax, PureJaxRL,
tristandeleu/pytorch-maml-rl, jonasrothfuss/ProMP and rlworkgroup/garage.
"""

import re
from itertools import pairwise
from typing import Any

from surefoot.experiment import PRESETS, Config
from surefoot.experiment.parts import kebab
from surefoot.experiment.presets import option_names
from surefoot.options import UserError


def _words(table: dict[str, str]) -> dict[str, str]:
    """A table with one entry for each word of its keys."""
    return {word: value for words, value in table.items() for word in words.split()}


OPTIONS = _words(
    {
        "total-timesteps n-timesteps num-batches n-itr epochs": "iterations",
        "meta-batch-size": "tasks",
        "fast-batch-size rollouts-per-meta-task rollouts-per-task episodes-per-task": "episodes",
        "n-envs num-envs": "streams",
        "n-steps": "steps",
        "max-path-length max-episode-length": "env.horizon env.time-limit",
        "num-workers n-workers parallel": "sampler.workers",
        "gamma discount": "estimation.discount",
        "tau gae-lambda": "estimation.gae-lambda",
        "normalize-advantage normalize-adv center-adv": "estimation.normalise",
        "ent-coef policy-ent-coeff": "entropy-bonus",
        "vf-coef": "value-coefficient",
        "net-arch num-layers hidden-size hidden-sizes": "policy.hidden",
        "activation-fn nonlinearity": "policy.activation",
        "learning-rate policy-lr": "rule.lr outer.lr step.lr",
        "anneal-lr": "rule.lr-end outer.lr-end",
        "n-epochs num-epochs update-epochs num-promp-steps max-optimization-epochs": (
            "rule.epochs outer.epochs"
        ),
        "batch-size minibatch-size": "rule.minibatches",
        "num-minibatches": "rule.minibatches outer.minibatches",
        "clip-range clip-eps lr-clip-range": "rule.clip outer.clip",
        "max-grad-norm": "rule.max-gradient-norm outer.max-gradient-norm step.max-gradient-norm",
        "target-kl": "rule.stop-kl outer.stop-kl rule.target-kl rule.max-kl outer.max-kl",
        "max-kl step-size max-kl-step": "rule.max-kl outer.max-kl",
        "cg-iters cg-max-steps": "rule.cg-iterations outer.cg-iterations",
        "cg-damping": "rule.damping outer.damping",
        "ls-max-steps line-search-max-iter": "rule.max-backtracks outer.max-backtracks",
        "ls-backtrack-ratio line-search-shrinking-factor": "rule.backtrack-ratio outer.backtrack-ratio",
        "fast-lr inner-lr": "inner.lr",
        "num-inner-grad-steps num-grad-updates": "inner-steps",
        "num-steps": "inner-steps steps",
        "normalize-observations": "normalisation.observations",
        "first-order": "order",
        "target-inner-step": "target-kl",
        "init-inner-kl-penalty": "kl-coefficient",
        "eval-episodes n-eval-episodes": "evaluation.episodes",
        "save-freq": "checkpoint-every",
        "log-folder output-folder": "out",
        "algo env-id env-name device": "",
    }
)
"""For an option of another library those of ours that may take its place; a preset has one of them."""

REMARKS = _words(
    {
        "total-timesteps n-timesteps": "surefoot counts iterations; one of this preset samples {samples}",
        "fast-batch-size rollouts-per-meta-task rollouts-per-task episodes-per-task": "episodes of each task",
        "n-envs num-envs": "the number of parallel environments",
        "num-steps": "steps of each stream, or inner steps of meta-learning",
        "n-steps": "steps of each stream",
        "num-workers n-workers parallel": "with --sampler processes",
        "batch-size minibatch-size": "their number for each epoch, not their size",
        "first-order": "--order first",
        "save-freq": "counted in iterations",
        "algo env-id env-name": (
            "environment and algorithm are one word: surefoot train ENVIRONMENT/ALGORITHM"
        ),
        "device": "JAX chooses the device; the environment variable JAX_PLATFORMS=cpu forces the CPU",
    }
)
"""Further remarks on some of these options."""

_BODIES = "HalfCheetah Hopper Walker2d Ant Humanoid Swimmer Reacher InvertedPendulum InvertedDoublePendulum"
GYMNASIUM = {"CartPole": "cartpole", **{name: kebab(name) for name in ("Pendulum", *_BODIES.split())}}
"""The environment of a preset for each of Gymnasium's, without the version."""

FAMILIES = _words(
    {
        "2DNavigation": "navigation-2d",
        "TabularMDP": "tabular-mdp",
        "Bandit-K5 Bandit-K10 Bandit-K50": "bandit",
        "HalfCheetahDir HalfCheetahRandDirec": "half-cheetah-dir",
        "HalfCheetahVel HalfCheetahRandVel": "half-cheetah-vel",
        "AntDir AntRandDirec": "ant-dir",
        "AntVel": "ant-vel",
        "AntPos AntRandGoal": "ant-goal",
        "HumanoidRandDirec2D": "humanoid-dir",
        "HopperRandParams": "hopper-params",
        "WalkerRandParamsWrapped": "walker2d-params",
    }
)
"""The environment of a preset for each family of tasks of PyTorch-MAML-RL, ProMP and Garage, without version
and "Env" at the end."""

PARTS = _words(
    {
        "ppo": "--algorithm single-task --rule ppo-clip",
        "trpo": "--algorithm single-task --rule trust-region",
        "vpg": "--algorithm single-task --rule optax-step",
        "a2c": "--algorithm single-task --policy actor-critic",
        "mamltrpo trpomaml": "--algorithm maml --outer trust-region",
        "mamlppo": "--algorithm maml --outer ppo-clip",
        "mamlvpg vpgmaml": "--algorithm maml --outer optax-step",
        "mlppolicy": "--policy actor-critic",
        "categoricalmlppolicy": "--policy categorical-mlp",
        "gaussianmlppolicy normalmlppolicy metagaussianmlppolicy": "--policy gaussian-mlp",
        "gaussiangrupolicy": "--policy gru",
    }
)
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
        hints = [f"--{name}: {_hint(name, config)}" for name in unknown]
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
    if re.fullmatch(r"[^:]+-v\d+", env):
        its = f"{env}/{algorithm or 'ppo'}"
        raise UserError(
            f"There is no preset {name}. Gymnasium's environment of this name is surefoot train gym:{its}; "
            f"gymnax's, in JAX, gymnax:{its}, if it has one."
        )


def has_option(config: Config, option: str) -> bool:
    """Whether a configuration has an option, named as on the command line."""
    names = option.replace("-", "_").split(".")
    holder: Any = config if hasattr(config, names[0]) else config.algorithm
    for name in names:
        if name not in option_names(holder):
            return False
        holder = getattr(holder, name)
    return True


def _hint(name: str, config: Config) -> str:
    """Those of our options that the configuration has, or which others have, and the remark."""
    known = OPTIONS[name].split()
    ours = [option for option in known if has_option(config, option)]
    options = " or ".join(f"--{option}" for option in ours or known)
    if options and not ours and name not in REMARKS:
        options = f"{config.preset} has no such option; others have {options}"
    remark = REMARKS.get(name, "").format(samples=_samples(config))
    return "; ".join(filter(None, [options, remark]))


def _samples(config: Config) -> str:
    """The data of one iteration, in words."""
    algorithm: Any = config.algorithm
    if has_option(config, "fragment"):
        steps = algorithm.fragment * algorithm.environments
        return f"{steps} environment steps for each of {algorithm.updates} gradients"
    if config.streams:
        return f"{config.streams * config.steps} environment steps"
    episodes = config.episodes * getattr(algorithm, "tasks", 1) * (1 + getattr(algorithm, "inner_steps", 0))
    return f"{episodes} episodes of at most {config.episodic_env.horizon} environment steps"
