"""The trust region step: as far along the natural gradient as a bound on the KL allows."""

from dataclasses import dataclass

import jax
import optax
from jaxtyping import PyTree

from surefoot.options import check
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.rules.natural_gradient import NaturalOptions
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.theory.trust_region import line_search, step_length
from surefoot.types import Key


@dataclass(frozen=True)
class TrustRegion(NaturalOptions, AbstractRule):
    """TRPO's step (Schulman et al., 2015, appendix C); with an adapted objective, MAML-TRPO's."""

    max_kl: float = 0.01
    """δ: the largest mean KL(old ‖ new), in nats."""
    backtrack_ratio: float = 0.8
    """Each attempt of the line search is this much shorter than the one before."""
    max_backtracks: int = 15
    """How often the line search shortens the step before it gives up and keeps the old policy."""
    fisher_fraction: float = 1.0
    """The part of the batch's leading axis (tasks, or one task's steps) that the Fisher matrix is taken from,
    drawn anew at each step. Gradient, loss and KL always use all of it."""

    def __post_init__(self) -> None:
        NaturalOptions.__post_init__(self)
        check(0 < self.max_kl < float("inf"), "max_kl", self.max_kl, "a positive number")
        check(0 < self.backtrack_ratio < 1, "backtrack_ratio", self.backtrack_ratio, "between 0 and 1")
        check(self.max_backtracks >= 0, "max_backtracks", self.max_backtracks, "0 or more")
        fraction = self.fisher_fraction
        check(0 < fraction <= 1, "fisher_fraction", fraction, "above 0 and at most 1")

    def init(self, policy: PyTree) -> Key:
        """From which the Fisher matrix's part of the next batch is drawn."""
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
        chosen = jax.random.permutation(key, total)[:part]
        return jax.tree.map(lambda x: x[chosen], batch)
