"""The sizes and settings of RL² that both sides of the comparison have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Trials of one episode on Bernoulli bandits, and PPO on them."""

    trials: int = 1000
    """Number of trials in a batch, each of a new bandit."""
    pulls: int = 10
    arms: int = 5
    units: int = 64
    epochs: int = 10
    minibatches: int = 8
    lr: float = 2e-3
    entropy_bonus: float = 0.005
    discount: float = 0.99
    gae_lambda: float = 0.3

    @property
    def steps(self) -> int:
        """Steps of the environment in an iteration."""
        return self.trials * self.pulls


PROBLEMS = {
    "10 pulls": Problem(),
    "100 pulls": Problem(trials=200, pulls=100, epochs=4, minibatches=20, entropy_bonus=0.02, gae_lambda=0.9),
}
QUICK = {"4 pulls": Problem(trials=16, pulls=4, units=8, epochs=2, minibatches=2)}
