"""What is trained: environments and settings, the same for both libraries, and the arithmetic it needs."""

from dataclasses import dataclass
from itertools import pairwise

SIZES = {
    "cartpole": (4, 2),
    "gym:CartPole-v1": (4, 2),
    "pendulum": (3, 1),
    "half-cheetah": (17, 6),
    "hopper": (11, 3),
}
"""(observations, outputs of the policy's network)."""
ENVIRONMENTS = {
    "cartpole": "CartPole-v1",
    "gym:CartPole-v1": "CartPole-v1",
    "pendulum": "Pendulum-v1",
    "half-cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
}


@dataclass(frozen=True)
class Problem:
    """An experiment: a preset's name, and what both libraries are told. The policy and the value function are
    separate networks."""

    preset: str
    streams: int = 8
    """Environments side by side."""
    steps: int = 256
    """Of each, for a batch."""
    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 10
    """Of the value function; PPO's policy as well."""
    minibatches: int = 32
    """Of each epoch."""
    lr: float = 1e-3
    """Of Adam. PPO's policy has it at the start, and zero at the end."""
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    max_gradient_norm: float = 0.5
    max_kl: float = 0.01
    cg_iterations: int = 10
    damping: float = 0.01
    backtrack_ratio: float = 0.8
    max_backtracks: int = 15

    @property
    def environment(self) -> str:
        return ENVIRONMENTS[self.preset.split("/")[0]]

    @property
    def rule(self) -> str:
        """`ppo` or `trpo`."""
        return self.preset.split("/")[1]

    @property
    def normalises(self) -> bool:
        """Whether observations and rewards are brought to a running scale."""
        return self.environment != "CartPole-v1"

    @property
    def in_jax(self) -> bool:
        """Whether surefoot's environment is compiled into its iteration; otherwise MuJoCo or Gymnasium steps
        it."""
        return self.preset.split("/")[0] in ("cartpole", "pendulum")

    @property
    def in_mujoco(self) -> bool:
        """Whether the environment needs MuJoCo."""
        return self.environment in ("HalfCheetah-v5", "Hopper-v5")

    @property
    def batch(self) -> int:
        """Steps of the environment in an iteration."""
        return self.streams * self.steps

    def operations(self, attempts: int) -> float:
        """Floating-point operations of an iteration: matrix products only, 2 for a multiply-add.

        With n steps in a batch, let F = 2n Σ_layers inputs·outputs be one product with every layer, and B the
        same without the first layer, whose input has no derivative. A gradient is F forward, F for the
        weights and B back through the layers; a product with the Fisher matrix, JᵀMJv, is F for the primal,
        F + B for J v and F + B for its transpose.
        """
        inputs, outputs = SIZES[self.preset.split("/")[0]]
        forward, back = self._products(inputs, outputs)
        value_forward, value_back = self._products(inputs, 1)
        # Acting, and the values of what was seen and of what followed it.
        sampling = forward + 2 * value_forward
        values = self.epochs * (2 * value_forward + value_back)
        gradient = 2 * forward + back
        if self.rule == "ppo":
            # Besides the epochs, what the policy predicts before and after them.
            return sampling + values + self.epochs * gradient + 2 * forward
        products = self.cg_iterations * (3 * forward + 2 * back)
        return sampling + values + gradient + products + (1 + attempts) * forward

    def _products(self, inputs: int, outputs: int) -> tuple[float, float]:
        sizes = pairwise((inputs, *self.hidden, outputs))
        layers = [2.0 * self.batch * rows * columns for rows, columns in sizes]
        return sum(layers), sum(layers[1:])


PROBLEMS = (
    Problem("cartpole/ppo"),
    Problem("cartpole/trpo", minibatches=16),
    Problem("gym:CartPole-v1/ppo"),
    Problem("pendulum/ppo", streams=16),
    Problem("pendulum/trpo", streams=16, minibatches=16),
    Problem("half-cheetah/ppo", lr=3e-4),
    Problem("half-cheetah/trpo", minibatches=16, damping=0.1),
)
"""A minibatch has 64 steps with PPO on CartPole and 128 with TRPO, the peers' own defaults."""
IN_MUJOCO = (
    *PROBLEMS[-2:],
    Problem("hopper/ppo", lr=3e-4),
    Problem("hopper/trpo", minibatches=16, damping=0.1),
)
"""Those whose returns are compared."""
QUICK = tuple(
    Problem(f"{env}/{rule}", streams=2, steps=16, epochs=2, minibatches=2)
    for env in ("cartpole", "half-cheetah")
    for rule in ("ppo", "trpo")
)
