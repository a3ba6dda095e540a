"""TRPO (Schulman et al., 2015): the natural gradient's step, shortened until the real KL keeps its bound.

The same rule trains any objective on any environment; docs/theory/trust_region.md derives its step.
"""

import matplotlib.pyplot as plt

from surefoot.algorithms import Estimation, SingleTask
from surefoot.baselines import ValueNetwork
from surefoot.envs import Gymnax
from surefoot.experiment import Config, Event, Learner
from surefoot.policies import CategoricalMLP
from surefoot.rules import TrustRegion


def main(iterations: int = 48) -> None:
    config = Config(
        env=Gymnax("CartPole-v1"),
        policy=CategoricalMLP(hidden=(64, 64), initialiser="orthogonal", output_scale=0.01),
        algorithm=SingleTask(rule=TrustRegion(max_kl=0.01, damping=0.01)),
        estimation=Estimation(ValueNetwork(minibatches=16), gae_lambda=0.95, fit="previous-batch"),
        streams=8,  # parallel environments,
        steps=256,  # of this number of steps: 2048 steps a batch
    )

    curve = []

    def show(event: Event) -> None:
        seen = event.metrics
        curve.append((seen["steps"], seen["return"]))
        print(
            f"{seen['steps']:6} steps   mean return {seen['return']:5.1f}   KL {seen['kl']:.4f}"
            f"   attempts of the line search {seen['line_search_attempts']:.0f}"
        )

    Learner(config).train(iterations, callback=show, progress=False)

    figure, axes = plt.subplots()
    axes.plot(*zip(*curve, strict=True))
    axes.set(title="TRPO on CartPole", xlabel="steps of the environment", ylabel="mean return of an episode")
    figure.savefig("05_trpo.png")


if __name__ == "__main__":
    main()
