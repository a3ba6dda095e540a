"""The reference agents on the bandits and tabular MDPs of RL² (Duan et al., 2016b, tables 1 and 2).

    python benchmarks/reference_agents.py [--problems 1000] [--seed 1] [--only bandits | mdps]

For each agent the mean total reward over held-out problems, with a 95% interval, beside the published figure;
beside those of `surefoot reproduce`, the agents that know the problem. Options of agents that the paper tuned
(`scale`, `epsilon`) were chosen on the problems of seed 0.
"""

import argparse

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from surefoot.reference import BestArm, Optimum, total_rewards
from surefoot.reproduction import TABLES, Agent, Row


def rows(name: str) -> list[Row]:
    """The reference agents of a published table, and the one that knows the problem."""
    found = [row for row in TABLES[name].rows if isinstance(row.entry, Agent)]
    example = found[0].entry
    assert isinstance(example, Agent)
    known = BestArm() if "bandits" in name else Optimum()
    return [*found, Row("known problem", Agent(known, example.env, example.episodes), (None,))]


def measured(entry: Agent, problems: int, seed: int) -> str:
    """The mean and half the width of its 95% interval."""
    key = jax.random.key(seed)
    totals = np.asarray(
        total_rewards(entry.agent, entry.env, key, problems=problems, episodes=entry.episodes)
    )
    return f"{totals.mean():.1f} ± {1.96 * totals.std(ddof=1) / np.sqrt(len(totals)):.1f}"


def main() -> None:
    """Print a table for each published one."""
    parser = argparse.ArgumentParser(description="Reference agents beside the published figures.")
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("bandits", "mdps"))
    options = parser.parse_args()
    for name in TABLES:
        if not name.startswith(f"rl2-{options.only or ''}"):
            continue
        table = Table("agent", "measured", "published", title=TABLES[name].title)
        for row in rows(name):
            assert isinstance(row.entry, Agent)
            published = "–" if row.published[0] is None else str(row.published[0])
            table.add_row(row.method, measured(row.entry, options.problems, options.seed), published)
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
