"""The reference agents on the bandits and tabular MDPs of RL² (Duan et al., 2016b, tables 1 and 2).

    python benchmarks/reference_agents.py [--problems 1000] [--seed 1] [--only bandits | mdps]

For each agent the mean total reward over held-out problems, with a 95% interval, beside the published figure.
Options of agents that the paper tuned (`scale`, `epsilon`) were chosen on the problems of seed 0.
"""

import argparse
from collections.abc import Mapping

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from surefoot.envs import AbstractEnv, Bandit, TabularMDP
from surefoot.reference import (
    PSRL,
    UCB1,
    UCRL2,
    AbstractAgent,
    BestArm,
    EpsilonGreedy,
    EpsilonGreedyArm,
    GittinsIndex,
    OptimisticPSRL,
    Optimum,
    Random,
    ThompsonSampling,
    total_rewards,
)

Row = tuple[AbstractAgent, tuple[float | None, ...]]
BANDITS: tuple[tuple[int, int], ...] = ((10, 5), (100, 5), (100, 10))
"""Numbers of pulls and arms."""
EPISODES = (10, 25)
BANDIT_AGENTS: Mapping[str, Row] = {
    "random": (Random(), (5.0, 49.9, 49.9)),
    "Gittins index": (GittinsIndex(), (6.6, 78.3, 82.8)),
    "Thompson sampling": (ThompsonSampling(), (5.7, 74.7, 76.7)),
    "UCB1": (UCB1(scale=0.2), (6.7, 78.0, 82.4)),
    "ε-greedy": (EpsilonGreedyArm(epsilon=0.0), (None, None, None)),
    "best arm, known": (BestArm(), (None, None, None)),
}
MDP_AGENTS: Mapping[str, Row] = {
    "random": (Random(), (100.1, 250.2)),
    "PSRL": (PSRL(), (138.1, 408.8)),
    "optimistic PSRL": (OptimisticPSRL(), (144.1, 425.2)),
    "UCRL2": (UCRL2(scale=0.03), (146.6, 424.1)),
    "ε-greedy": (EpsilonGreedy(epsilon=0.0), (None, None)),
    "optimum, known": (Optimum(), (None, None)),
}


def measured(agent: AbstractAgent, env: AbstractEnv, episodes: int, problems: int, seed: int) -> str:
    """The mean and half the width of its 95% interval."""
    key = jax.random.key(seed)
    totals = np.asarray(total_rewards(agent, env, key, problems=problems, episodes=episodes))
    return f"{totals.mean():.1f} ± {1.96 * totals.std(ddof=1) / np.sqrt(len(totals)):.1f}"


def table(
    title: str,
    settings: Mapping[str, tuple[AbstractEnv, int]],
    agents: Mapping[str, Row],
    problems: int,
    seed: int,
) -> Table:
    """A row for each agent, and for each setting what was measured and what was published."""
    result = Table("agent", *settings, title=title)
    for name, (agent, published) in agents.items():
        cells = [
            measured(agent, env, episodes, problems, seed) + ("" if theirs is None else f"  ({theirs})")
            for (env, episodes), theirs in zip(settings.values(), published, strict=True)
        ]
        result.add_row(f"{name} {agent}" if str(agent)[-2:] != "()" else name, *cells)
    return result


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Reference agents beside the published figures.")
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("bandits", "mdps"))
    options = parser.parse_args()
    console = Console(width=140)
    if options.only != "mdps":
        bandits = {
            f"{pulls} pulls, {arms} arms": (Bandit(arms=arms, horizon=pulls), 1) for pulls, arms in BANDITS
        }
        title = "Total reward, measured (published)"
        console.print(table(title, bandits, BANDIT_AGENTS, options.problems, options.seed))
    if options.only != "bandits":
        mdps = {f"{n} episodes": (TabularMDP(), n) for n in EPISODES}
        title = "Total reward of 10 states, 5 actions, 10 steps, measured (published)"
        console.print(table(title, mdps, MDP_AGENTS, options.problems, options.seed))


if __name__ == "__main__":
    main()
