"""TRPO (Schulman et al., 2015): the natural gradient's step, shortened until the real KL keeps its bound.

The same rule trains any objective on any environment; docs/theory/trust_region.md derives its step.
"""

from surefoot.algorithms import Estimation, SingleTask
from surefoot.baselines import ValueNetwork
from surefoot.envs import Gymnax
from surefoot.experiment import Config
from surefoot.experiment.run import initial_state
from surefoot.experiment.training import compiled_iteration
from surefoot.policies import CategoricalMLP
from surefoot.rules import TrustRegion


def main(iterations: int = 48) -> None:
    config = Config(
        env=Gymnax("CartPole-v1"),
        policy=CategoricalMLP(hidden=(64, 64), initialiser="orthogonal", output_scale=0.01),
        algorithm=SingleTask(rule=TrustRegion(max_kl=0.01, damping=0.01)),
        estimation=Estimation(ValueNetwork(minibatches=16), gae_lambda=0.95, fit="previous-batch"),
        streams=8,  # environments side by side that never stop,
        steps=256,  # and so 2048 steps a batch
    )
    state = initial_state(config)
    iterate = compiled_iteration(config, config.setting(), state)
    for _ in range(iterations):
        state, seen = iterate(state)
        print(
            f"{seen['steps']:6} steps   mean return {seen['return']:5.1f}   KL {seen['kl']:.4f}"
            f"   attempts of the line search {seen['line_search_attempts']:.0f}"
        )


if __name__ == "__main__":
    main()
