"""MAML-TRPO (Finn et al., 2017): train the policy that tasks adapt from, on the return after adaptation.

`MAML` hands the trust region an objective that takes the inner step first, and nothing else is new: see
docs/theory/meta.md. A task is a goal on the plane, which the policy is never told.
"""

from dataclasses import replace

import matplotlib.pyplot as plt

import surefoot
from surefoot.algorithms import MAML
from surefoot.policies import GaussianMLP
from surefoot.rules import GradientStep, TrustRegion


def main(iterations: int = 20) -> None:
    config = replace(
        surefoot.preset("navigation-2d/maml-trpo"),
        policy=GaussianMLP(hidden=(32,), activation="relu", action_scale=0.1),
        algorithm=MAML(inner=GradientStep(lr=(0.5, 0.2)), outer=TrustRegion(max_kl=0.01), tasks=10),
        evaluation=surefoot.Evaluation(tasks=20, episodes=20, steps=3),
    )
    learner = surefoot.Learner(config).train(iterations, callback=print, progress=False)
    held_out = learner.evaluate()
    for step, returns in enumerate(held_out.returns):
        print(f"20 goals it has never met, after {step} steps of adaptation: {returns.mean():5.1f}")

    figure, axes = plt.subplots()
    axes.plot(held_out.returns, color="C0", alpha=0.4)  # a line for each goal
    axes.set(
        title="MAML-TRPO on 20 new goals", xlabel="steps of adaptation", ylabel="mean return of 20 episodes"
    )
    axes.set_xticks(range(len(held_out.returns)))
    figure.savefig("07_maml_trpo.png")


if __name__ == "__main__":
    main()
