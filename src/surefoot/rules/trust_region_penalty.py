"""The trust region by a price instead of a bound: the KL is paid for, as the theory behind TRPO has it."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from surefoot.options import check
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.rules.natural_gradient import NaturalOptions
from surefoot.theory.objectives import AbstractObjective, Penalised, adapt_penalty, loss_and_gradient
from surefoot.theory.trust_region import line_search


@dataclass(frozen=True)
class TrustRegionPenalty(NaturalOptions, AbstractRule):
    """Minimise L(θ) + β KL(θ_old ‖ θ) (Schulman et al., 2015, eq. 9), in its quadratic model and then for
    real.

    To first order in L and second in the KL the minimum is θ − F⁻¹g / β. That step is shortened until the
    penalised loss itself falls; no bound is put on the KL.
    """

    beta: float = 1.0
    """The price of one nat, at the first step if it adapts."""
    target_kl: float | None = 0.01
    """After each step β is doubled if it was refused or its KL above 1.5 times this, halved if it was below
    this over 1.5; none for a fixed β. The β that the theory proves improvement with makes steps too small to
    be of use."""
    backtrack_ratio: float = 0.8
    """Each attempt of the line search is this much shorter than the one before."""
    max_backtracks: int = 15
    """How often the line search shortens the step before it gives up and keeps the old policy."""

    def __post_init__(self) -> None:
        NaturalOptions.__post_init__(self)
        check(0 < self.beta < float("inf"), "beta", self.beta, "a positive number")
        target = self.target_kl
        check(target is None or target > 0, "target_kl", target, "a positive number or none")
        check(0 < self.backtrack_ratio < 1, "backtrack_ratio", self.backtrack_ratio, "between 0 and 1")
        check(self.max_backtracks >= 0, "max_backtracks", self.max_backtracks, "0 or more")

    def init(self, policy: PyTree) -> Float[Array, ""]:
        """β."""
        del policy
        return jnp.asarray(self.beta, float)

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: Float[Array, ""]
    ) -> tuple[PyTree, Float[Array, ""], Metrics]:
        loss, gradient = loss_and_gradient(objective, policy, batch)
        natural = self.direction(objective, policy, gradient, batch)
        search = line_search(
            Penalised(objective, state),
            policy,
            optax.tree.scale(-1.0 / state, natural.direction),
            (batch, objective.predict(policy, batch)),
            loss,
            max_kl=float("inf"),
            ratio=self.backtrack_ratio,
            max_backtracks=self.max_backtracks,
        )
        metrics = self.describe(loss, gradient, natural) | {
            "loss_after": search.loss - state * search.kl,
            "kl": search.kl,
            "beta": state,
            "line_search_attempts": search.attempts.astype(loss.dtype),
            "step_accepted": search.accepted.astype(loss.dtype),
        }
        if self.target_kl is not None:
            # A refused step has moved nothing and was yet too long: the next must cost more.
            moved = jnp.where(search.accepted, search.kl, jnp.inf)
            state = adapt_penalty(state, moved, self.target_kl)
        return search.policy, state, metrics
