"""Published tables: for each method its configuration, or its reference agent, and the published figures.

RL²'s tables are of Duan et al. (2016b); its row is trained by PPO here, and by TRPO there. An agent's score
is the total reward of a trial: a number of pulls of a bandit, or of episodes of an MDP. MAML spends its trial
in parts of equal size: the first is drawn by the policy as it was trained, and each later one after one more
step of adaptation.
"""

from dataclasses import dataclass, replace
from typing import Literal

from surefoot.algorithms import MAML
from surefoot.envs import AbstractEnv, Bandit, TabularMDP, Trial
from surefoot.experiment import Config, Evaluation, preset
from surefoot.experiment.presets import with_options
from surefoot.reference import (
    PSRL,
    UCB1,
    UCRL2,
    AbstractAgent,
    EpsilonGreedyArm,
    GittinsIndex,
    OptimisticPSRL,
    Random,
    ThompsonSampling,
)
from surefoot.rules import GradientStep, TrustRegion

Figures = tuple[float | None, ...]
_PROBLEMS = 1000
"""Number of held-out problems, as in the RL² paper."""


@dataclass(frozen=True)
class Agent:
    """A reference agent, and the trials that it is rated on."""

    agent: AbstractAgent
    env: AbstractEnv
    episodes: int
    problems: int = _PROBLEMS


@dataclass(frozen=True)
class Row:
    """A method of a table."""

    method: str
    entry: Config | Agent
    published: Figures = ()
    """The published figures: one, or one for each number of steps of adaptation. None where there is none."""


@dataclass(frozen=True)
class PublishedTable:
    """A published table."""

    title: str
    source: str
    quantity: Literal["total reward of a trial", "mean return"]
    """The score: the first is the sum over all parts of a trial; the second has a figure after each number of
    steps of adaptation, from 0 on."""
    rows: tuple[Row, ...]
    note: str = ""
    """A difference from the publication that a reader must know of."""


_PARTS = 5
"""Number of parts of a trial of MAML."""
_MAML_NOTE = f"MAML spends the trial in {_PARTS} parts of {{}} {{}}, with a step of adaptation between them."


def _maml(environment: str, env: AbstractEnv, episodes: int, lr: float) -> Config:
    base = preset(f"{environment}/maml-trpo")
    algorithm = MAML(GradientStep(lr), TrustRegion(max_kl=0.01), inner_steps=_PARTS - 1, tasks=100)
    evaluation = Evaluation(tasks=_PROBLEMS, episodes=episodes, steps=_PARTS - 1)
    return replace(base, env=env, algorithm=algorithm, episodes=episodes, evaluation=evaluation)


def _bandits(pulls: int, arms: int, published: dict[str, float]) -> PublishedTable:
    env, size = Bandit(arms=arms, horizon=pulls), pulls // _PARTS
    memory = preset("bandit/rl2-ppo-long" if pulls > 10 else "bandit/rl2-ppo")
    entries = {
        "RL²": replace(memory, env=Trial(env, 1), evaluation=replace(memory.evaluation, steps=0)),
        "MAML": _maml("bandit", Bandit(arms=arms, horizon=1), size, 10.0),
        "Gittins index": Agent(GittinsIndex(), env, 1),
        "Thompson sampling": Agent(ThompsonSampling(), env, 1),
        "UCB1": Agent(UCB1(scale=0.2), env, 1),
        "ε-greedy, ε = 0": Agent(EpsilonGreedyArm(epsilon=0.0), env, 1),
        "random": Agent(Random(), env, 1),
    }
    return PublishedTable(
        f"RL² on bandits, {pulls} pulls of {arms} arms",
        "Duan et al. (2016b), table 1; MAML: Mishra et al. (2018), table 1",
        "total reward of a trial",
        tuple(Row(name, entry, (published.get(name),)) for name, entry in entries.items()),
        _MAML_NOTE.format(size, "pulls"),
    )


def _mdps(episodes: int, published: dict[str, float]) -> PublishedTable:
    env, size = TabularMDP(), episodes // _PARTS
    entries = {
        "RL²": with_options(
            preset("tabular-mdp/rl2-ppo-attention"),
            {"env.episodes": episodes, "evaluation.steps": episodes - 1},
        ),
        "MAML": _maml("tabular-mdp", env, size, 5.0),
        "PSRL": Agent(PSRL(), env, episodes),
        "OPSRL": Agent(OptimisticPSRL(), env, episodes),
        "UCRL2": Agent(UCRL2(scale=0.03), env, episodes),
        "random": Agent(Random(), env, episodes),
    }
    return PublishedTable(
        f"RL² on tabular MDPs, {episodes} episodes",
        "Duan et al. (2016b), table 2",
        "total reward of a trial",
        tuple(Row(name, entry, (published.get(name),)) for name, entry in entries.items()),
        "RL² has attention, and sees whole transitions. " + _MAML_NOTE.format(size, "episodes"),
    )


_TWO_CORES = {"tasks": 20, "episodes": 10, "iterations": 150}
"""Half the tasks, half the episodes and a fraction of the iterations of the papers: a budget for two
cores."""
_SMALLER = "At a budget for two cores: 20 tasks × 10 episodes, 150 iterations."
_DIRECTION = {"env.horizon": 200, "iterations": 200, "outer.max-kl": 0.03}
"""The paper's episodes have 200 steps, those of ProMP 100. With a bound of 0.01 learning is slower."""
_LOCOMOTION = ("maml-trpo", "fomaml-trpo", "promp", "e-maml-trpo")


def _on_two_cores(name: str) -> Config:
    return with_options(preset(name), _TWO_CORES)


TABLES: dict[str, PublishedTable] = {
    "rl2-bandits-10-5": _bandits(
        10,
        5,
        {
            "RL²": 6.7,
            "MAML": 6.5,
            "Gittins index": 6.6,
            "Thompson sampling": 5.7,
            "UCB1": 6.7,
            "random": 5.0,
        },
    ),
    "rl2-bandits-100-5": _bandits(
        100,
        5,
        {
            "RL²": 78.7,
            "MAML": 67.1,
            "Gittins index": 78.3,
            "Thompson sampling": 74.7,
            "UCB1": 78.0,
            "random": 49.9,
        },
    ),
    "rl2-bandits-100-10": _bandits(
        100,
        10,
        {
            "RL²": 83.5,
            "MAML": 70.1,
            "Gittins index": 82.8,
            "Thompson sampling": 76.7,
            "UCB1": 82.4,
            "random": 49.9,
        },
    ),
    "rl2-mdps-10": _mdps(10, {"RL²": 156.2, "PSRL": 138.1, "OPSRL": 144.1, "UCRL2": 146.6, "random": 100.1}),
    "rl2-mdps-25": _mdps(25, {"RL²": 445.7, "PSRL": 408.8, "OPSRL": 425.2, "UCRL2": 424.1, "random": 250.2}),
    "maml-navigation-2d": PublishedTable(
        "MAML on 2-D navigation, over steps of adaptation",
        "Finn et al. (2017), figure 4 and appendix",
        "mean return",
        (Row("MAML-TRPO", preset("navigation-2d/maml-trpo"), (-40.4, -11.7, -3.3, -3.2)),),
    ),
    "maml-half-cheetah-dir": PublishedTable(
        "MAML on the half-cheetah's direction, over steps of adaptation",
        "Finn et al. (2017), figure 5, published as a curve",
        "mean return",
        (Row("MAML-TRPO", with_options(_on_two_cores("half-cheetah-dir/maml-trpo"), _DIRECTION)),),
        "At a budget for two cores: 20 tasks × 10 episodes, 200 iterations. A step's KL is at most 0.03, "
        "not 0.01.",
    ),
    "maml-half-cheetah-vel": PublishedTable(
        "MAML on the half-cheetah's velocity, over steps of adaptation",
        "Finn et al. (2017), figure 5 and appendix",
        "mean return",
        (Row("MAML-TRPO", _on_two_cores("half-cheetah-vel/maml-trpo"), (-129.0, -79.0, -67.0, -61.0)),),
        _SMALLER,
    ),
    "promp-half-cheetah-dir": PublishedTable(
        "ProMP and others on the half-cheetah's direction",
        "Rothfuss et al. (2019), figure 2, published as curves",
        "mean return",
        tuple(Row(method, _on_two_cores(f"half-cheetah-dir/{method}")) for method in _LOCOMOTION),
        _SMALLER,
    ),
}
"""The tables that `surefoot reproduce` knows, by name."""
