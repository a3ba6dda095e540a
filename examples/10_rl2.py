"""RL² (Duan et al., 2016b): a policy with a memory learns how to learn a bandit, without any gradient step.

`Trial` makes ten pulls of one bandit, which the policy does not know, into one episode: see
docs/theory/rl2.md.
"""

from dataclasses import replace

import matplotlib.pyplot as plt

import surefoot
from surefoot.algorithms import RL2
from surefoot.envs import Bandit, Trial
from surefoot.policies import GRU
from surefoot.rules import TrustRegion


def main(iterations: int = 60) -> None:
    config = replace(
        surefoot.preset("bandit/rl2-trpo"),
        env=Trial(Bandit(arms=3, horizon=1), episodes=10),
        policy=GRU(units=32),
        algorithm=RL2(rule=TrustRegion(max_kl=0.02, damping=0.01), tasks=500),
        evaluation=surefoot.Evaluation(tasks=500, episodes=1, steps=9),
    )
    learner, (figure, axes) = surefoot.Learner(config), plt.subplots()
    for done in (0, iterations):
        learner.train(done, callback=print, progress=False)
        rewards = learner.evaluate().returns.mean(axis=1)
        axes.plot(range(1, 11), rewards, marker="o", label=f"after {done} iterations")
        print(f"{done} iterations: total reward of a trial, its mean return, {rewards.sum():.2f}")
    axes.set(title="RL² on a bandit with 3 arms", xlabel="pull", ylabel="mean reward")
    axes.legend(frameon=False)
    figure.savefig("10_rl2.png")


if __name__ == "__main__":
    main()
