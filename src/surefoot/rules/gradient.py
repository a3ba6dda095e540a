"""Gradient steps: plain, as inner loops want them, and through Optax, with a memory."""

from dataclasses import dataclass
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from surefoot.options import Bound, NonNegative, Options, Positive
from surefoot.rules.base import AbstractRule, Metrics
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.theory.trust_region import project_to_ball

_SomeRate = Bound(lambda lr: not isinstance(lr, tuple) or lr != (), "one learning rate or more", whole=True)
EPS_ROOT = 1e-16
"""Adam's ε inside the root, without which the derivative of a step is not finite where a gradient is zero."""


def clipped_gradient(limit: float) -> optax.GradientTransformation:
    """Scales a gradient down to the Euclidean norm `limit` if it is longer."""
    return optax.stateless(lambda gradient, _: project_to_ball(gradient, limit))


@dataclass(frozen=True)
class GradientStep(Options, AbstractRule):
    """θ ← θ − α_k ∇L(θ): the inner step of MAML."""

    lr: Annotated[float | tuple[float, ...], NonNegative, _SomeRate] = 0.1
    """Learning rate α, or one for each step in turn; the last serves all steps after it."""
    requires_surrogate = False

    def init(self, policy: PyTree) -> Int[Array, ""]:
        """The number of steps taken."""
        del policy
        return jnp.zeros((), jnp.int32)

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: Int[Array, ""]
    ) -> tuple[PyTree, Int[Array, ""], Metrics]:
        loss, gradient = loss_and_gradient(objective, policy, batch)
        rates = jnp.asarray(self.lr if isinstance(self.lr, tuple) else (self.lr,), loss.dtype)
        rate = rates[jnp.minimum(state, len(rates) - 1)]
        policy = eqx.apply_updates(policy, optax.tree.scale(-rate, gradient))
        return policy, state + 1, {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}


@dataclass(frozen=True)
class OptaxStep(Options, AbstractRule):
    """A step of one of Optax's optimisers."""

    optimiser: Literal["sgd", "adam", "adamw", "rmsprop"] = "adam"
    """Optimiser, as `optax` names it."""
    lr: Annotated[float, NonNegative] = 1e-3
    """Learning rate."""
    max_gradient_norm: Annotated[float | None, Positive] = None
    """Maximal Euclidean norm of the gradient; longer ones are scaled down to it. None for no limit."""
    requires_surrogate = False

    def init(self, policy: PyTree) -> PyTree:
        return self._optimiser().init(eqx.filter(policy, eqx.is_inexact_array))

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: PyTree
    ) -> tuple[PyTree, PyTree, Metrics]:
        loss, gradient = loss_and_gradient(objective, policy, batch)
        policy, state = self.apply(policy, gradient, state)
        return policy, state, {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}

    def apply(self, policy: PyTree, gradient: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        """The step along a gradient that is known already."""
        parameters = eqx.filter(policy, eqx.is_inexact_array)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
            updates, state = self._optimiser().update(gradient, state, parameters)
        return eqx.apply_updates(policy, updates), state

    def _optimiser(self) -> optax.GradientTransformation:
        options = {"eps_root": EPS_ROOT} if self.optimiser in ("adam", "adamw") else {}
        step = getattr(optax, self.optimiser)(self.lr, **options)
        if self.max_gradient_norm is not None:
            step = optax.chain(clipped_gradient(self.max_gradient_norm), step)
        # All parameters as one vector: a few large operations instead of some for each array.
        return optax.flatten(step)
