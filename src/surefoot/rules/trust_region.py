"""The trust region step: as far along the natural gradient as a bound on the KL allows."""

from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
import optax
from jaxtyping import PyTree

from surefoot.options import Bound, OpenFraction, Positive, at_least
from surefoot.rules.base import AbstractRule, Metrics, valid_of_steps
from surefoot.rules.natural_gradient import NaturalOptions
from surefoot.theory.minibatches import shuffled
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.theory.trust_region import line_search, step_length
from surefoot.types import Key


@dataclass(frozen=True)
class TrustRegion(NaturalOptions, AbstractRule):
    """TRPO's step (Schulman et al., 2015, appendix C); with an adapted objective, MAML-TRPO's."""

    max_kl: Annotated[float, Positive] = 0.01
    """Maximal mean KL(old ‖ new) of a step, δ, in nats."""
    backtrack_ratio: Annotated[float, OpenFraction] = 0.8
    """Factor by which each attempt of the line search shortens the step."""
    max_backtracks: Annotated[int, at_least(0)] = 15
    """Number of times that the line search shortens the step before it keeps the old policy."""
    fisher_fraction: Annotated[float, Bound(lambda x: 0 < x <= 1, "above 0 and at most 1")] = 1.0
    """Fraction of the batch's leading axis (tasks, steps or episodes) that the Fisher matrix is computed
    from, drawn anew at each step; of an inner rule, the same in every adaptation. Gradient, loss and KL
    always use the whole batch."""

    def init(self, policy: PyTree) -> Key:
        """The key that draws the part of the next batch that the Fisher matrix uses."""
        del policy
        return jax.random.key(0)

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: Key
    ) -> tuple[PyTree, Key, Metrics]:
        key, now = jax.random.split(state)
        loss, gradient = loss_and_gradient(objective, policy, batch)
        natural = self.direction(objective, policy, gradient, self._fisher_part(batch, now))
        scale = -step_length(self.max_kl, natural.curvature)
        search = line_search(
            objective,
            policy,
            optax.tree.scale(scale, natural.direction),
            batch,
            loss,
            max_kl=self.max_kl,
            ratio=self.backtrack_ratio,
            max_backtracks=self.max_backtracks,
        )
        metrics = self.describe(loss, gradient, natural) | {
            "loss_after": search.loss,
            "kl": search.kl,
            "line_search_attempts": search.attempts.astype(loss.dtype),
            "step_accepted": search.accepted.astype(loss.dtype),
        }
        return search.policy, key, metrics

    def _fisher_part(self, batch: PyTree, key: Key) -> PyTree:
        total = jax.tree.leaves(batch)[0].shape[0]
        part = max(1, round(self.fisher_fraction * total))
        if part == total:
            return batch
        order = shuffled(key, total, 1, valid_of_steps(batch))[0]
        # Evenly along the order, which has the padding at its end: steps and padding in proportion.
        chosen = order[np.arange(part, dtype=np.int64) * total // part]
        return jax.tree.map(lambda x: x[chosen], batch)
