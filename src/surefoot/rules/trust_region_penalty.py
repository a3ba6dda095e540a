"""The trust region as a KL penalty in place of a bound, which is what the theory behind TRPO derives."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from surefoot.options import OpenFraction, Positive, at_least
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.rules.natural_gradient import NaturalOptions
from surefoot.theory.objectives import (
    AbstractObjective,
    Penalised,
    adaptive_kl_coefficient,
    loss_and_gradient,
)
from surefoot.theory.trust_region import line_search


@dataclass(frozen=True)
class TrustRegionPenalty(NaturalOptions, AbstractRule):
    """Minimise L(θ) + β KL(θ_old ‖ θ) (Schulman et al., 2015, eq. 9), first in its quadratic model, then
    itself.

    To first order in L and second in the KL the minimum is θ − F⁻¹g / β. That step is shortened until the
    penalised loss itself falls; no bound is put on the KL.
    """

    beta: Annotated[float, Positive] = 1.0
    """Initial KL coefficient β."""
    target_kl: Annotated[float | None, Positive] = 0.01
    """Target KL of the adaptive coefficient, in nats: after each step β is doubled if the step was refused or
    its KL was above 1.5 × this, and halved if it was below this / 1.5. None for a fixed β. The β for which
    the theory proves improvement gives steps too small to be useful."""
    backtrack_ratio: Annotated[float, OpenFraction] = 0.8
    """Factor by which each attempt of the line search shortens the step."""
    max_backtracks: Annotated[int, at_least(0)] = 15
    """Number of times that the line search shortens the step before it keeps the old policy."""

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
            state = adaptive_kl_coefficient(state, moved, self.target_kl)
        return search.policy, state, metrics
