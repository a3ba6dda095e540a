"""The meta-step that is measured: its size, its settings, its data, and how much arithmetic it needs."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """One step of MAML-TRPO: its sizes and the settings of its rules."""

    tasks: int = 40
    episodes: int = 20
    steps: int = 100
    observations: int = 20
    actions: int = 6
    hidden: tuple[int, ...] = (64, 64)
    inner_lr: float = 0.1
    max_kl: float = 0.01
    cg_iterations: int = 10
    damping: float = 1e-5
    backtrack_ratio: float = 0.8
    max_backtracks: int = 15

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer."""
        sizes = (self.observations, *self.hidden, self.actions)
        return list(pairwise(sizes))


def load(path: Path) -> tuple[list[np.ndarray], Arrays, Arrays, float]:
    """Initial parameters (weights, biases, raw log standard deviations), support set, query set, and the
    lower bound of the log standard deviations. Data has the leading axes `[task episode time]`."""
    with np.load(path) as stored:
        parts: dict[str, Any] = {name: stored[name] for name in stored.files}
    parameters = [
        parts[f"parameter_{i}"] for i in range(sum(name.startswith("parameter_") for name in parts))
    ]
    fields = ("observations", "actions", "log_probs", "advantages")
    support, query = ({f: parts[f"{phase}_{f}"] for f in fields} for phase in ("support", "query"))
    return parameters, support, query, float(parts["min_log_std"])


def direction(problem: Problem) -> np.ndarray:
    """The vector that the sides' Fisher-vector products are compared on."""
    size = sum(rows * columns + columns for rows, columns in problem.layers) + problem.actions
    return np.random.default_rng(1).standard_normal(size).astype(np.float32)


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of the meta-step's parts: matrix products only, 2 for a multiply-add.

    With n steps in a set (support or query) of all tasks, let F = 2n Σ_layers inputs·outputs be one product
    with every layer, and B the same without the first layer, whose input has no derivative.
    """

    primal: float
    """Adapt and predict: support forward F, its gradient in the weights F and back through the layers B,
    query forward F."""
    tangents: float
    """J v, or Jᵀ u, with the primal at hand. Support forward F + B (dy = x dW + dx W), back through the
    layers 2B (dδ Wᵀ + δ dWᵀ), gradient in the weights F + B (xᵀ dδ + dxᵀ δ), query forward F + B. Each
    product transposes into one of the same size."""

    @classmethod
    def of(cls, problem: Problem) -> "Operations":
        steps = problem.tasks * problem.episodes * problem.steps
        products = [2.0 * steps * rows * columns for rows, columns in problem.layers]
        forward, back = sum(products), sum(products[1:])
        return cls(primal=3 * forward + back, tangents=3 * forward + 5 * back)

    @property
    def fisher_vector_product(self) -> float:
        """JᵀMJv with the primal computed anew, so that nothing is kept between products."""
        return self.primal + 2 * self.tangents

    @property
    def gradient(self) -> float:
        return self.primal + self.tangents

    def step(self, products: int, attempts: int) -> float:
        """The gradient, the Fisher-vector products, the old prediction and the line search's attempts."""
        return self.gradient + products * self.fisher_vector_product + (1 + attempts) * self.primal
