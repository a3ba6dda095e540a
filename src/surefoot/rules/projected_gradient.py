"""Projected gradient: a trust region that is a ball of the parameters."""

from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from surefoot.options import NonNegative, Options, Positive, at_least
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.theory.trust_region import project_to_ball


@dataclass(frozen=True)
class ProjectedGradient(Options, AbstractRule):
    """Gradient steps on one batch that stay within a ball, ‖θ − θ_old‖ ≤ r: a step that leaves it ends at the
    ball's nearest point (Goldstein, 1964).

    The Euclidean counterpart of `trust-region`, whose distance is the KL of the actions. A step that is not
    finite is refused.
    """

    lr: Annotated[float, NonNegative] = 0.1
    """Learning rate α of each gradient step."""
    radius: Annotated[float, Positive] = 0.1
    """Radius r of the ball: the maximal Euclidean norm of the change of all parameters by one batch."""
    gradient_steps: Annotated[int, at_least(1)] = 10
    """Number of gradient steps on each batch."""
    takes_several_steps = True

    def init(self, policy: PyTree) -> None:
        del policy

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: None
    ) -> tuple[PyTree, None, Metrics]:
        old = eqx.filter(policy, eqx.is_inexact_array)

        def turn(step: PyTree, _: None) -> tuple[PyTree, tuple[Array, Array]]:
            loss, gradient = loss_and_gradient(objective, eqx.apply_updates(policy, step), batch)
            following = project_to_ball(optax.tree.add_scale(step, -self.lr, gradient), self.radius)
            return following, (loss, optax.tree.norm(gradient))

        start = optax.tree.zeros_like(old)
        step, (losses, norms) = jax.lax.scan(turn, start, length=self.gradient_steps)
        distance = optax.tree.norm(step)
        finite = jnp.isfinite(distance)
        step = jax.tree.map(lambda s: jnp.where(finite, s, 0.0), step)
        metrics = {
            "loss": losses[0],
            "gradient_norm": norms[0],
            "step_norm": jnp.where(finite, distance, 0.0),
            "step_accepted": finite.astype(losses.dtype),
        }
        return eqx.apply_updates(policy, step), state, metrics
