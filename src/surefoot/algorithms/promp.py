"""ProMP: proximal meta-policy search (Rothfuss et al., 2019)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.algorithms.gradient_meta import AbstractGradientMeta, InnerLossName
from surefoot.options import NonNegative, Positive
from surefoot.rules import AbstractRule, PPOClip
from surefoot.theory.meta import AbstractTerm, Adapted, AdaptedPrediction
from surefoot.theory.objectives import AbstractObjective, adaptive_kl_coefficient
from surefoot.types import MetaBatch


class SupportKL(AbstractTerm):
    """Σ_k η_k KL(π_θk,old ‖ π_θk), averaged over the valid steps of each support set D_k (Rothfuss et al.,
    2019, eq. 11).

    It measures how far each policy of the adaptation has moved since it drew its support set, and is zero
    before the first outer step, although θ_k differs from θ.
    """

    coefficients: Float[Array, " step"]
    """η_k, one for each inner step."""
    target: Float[Array, ""] | None
    """Target KL of the adaptive coefficients, in nats; None for fixed ones."""

    def prepare(
        self, objective: Adapted, policy: PyTree, batch: MetaBatch, returns: Float[Array, "task episode"]
    ) -> tuple[PyTree, ...]:
        """The old policies' predictions on the support sets."""
        del returns
        return objective.predict(policy, batch).support

    def __call__(
        self,
        outer: AbstractObjective,
        prediction: AdaptedPrediction,
        batch: MetaBatch,
        prepared: tuple[PyTree, ...],
    ) -> Float[Array, ""]:
        return jnp.sum(self.coefficients * _divergences(outer, prediction, batch, prepared))

    def update(
        self, objective: Adapted, policy: PyTree, batch: MetaBatch, prepared: tuple[PyTree, ...]
    ) -> tuple["SupportKL", Mapping[str, Float[Array, ""]]]:
        """Adapts each coefficient to the KL that was reached."""
        each = jax.vmap(lambda *task: _divergences(objective.outer, *task))
        reached = jnp.mean(each(objective.predict(policy, batch), batch, prepared), axis=0)
        metrics = {"support_kl": jnp.mean(reached), "kl_coefficient": jnp.mean(self.coefficients)}
        if self.target is None:
            return self, metrics
        adapt = jax.vmap(adaptive_kl_coefficient, in_axes=(0, 0, None))
        coefficients = adapt(self.coefficients, reached, self.target)
        return SupportKL(coefficients, self.target), metrics

    def after(self, earlier: "SupportKL") -> "SupportKL":
        return SupportKL(earlier.coefficients, self.target)


def _divergences(
    outer: AbstractObjective, prediction: AdaptedPrediction, batch: MetaBatch, old: tuple[PyTree, ...]
) -> Float[Array, " step"]:
    """KL(old ‖ new) on each support set of one task."""
    pairs = zip(old, prediction.support, batch.support, strict=True)
    return jnp.stack([outer.divergence(*pair) for pair in pairs])


@dataclass(frozen=True)
class ProMP(AbstractGradientMeta):
    """Proximal meta-policy search (Rothfuss et al., 2019): several clipped steps on each meta-batch, and a
    KL penalty on each support set.

    The inner loss is the likelihood ratio, whose second derivative is the low-variance curvature of the
    paper. The query is clipped and has no KL.
    """

    part_name: ClassVar[str] = "promp"

    outer: AbstractRule = PPOClip(clip=0.3, epochs=5, minibatches=1, lr=1e-3, max_gradient_norm=None)
    """Rule by which the policy is meta-trained. The default's 5 full-batch steps of Adam at 1e-3 and its ε
    of 0.3 are the paper's."""
    inner_loss: InnerLossName = "surrogate"
    """Loss of the inner steps. Several steps on one batch need likelihood ratios (`surrogate` or `dice`)."""
    kl_coefficient: Annotated[float, NonNegative] = 5e-4
    """Initial KL coefficient η of every inner step. The default is the paper's."""
    target_kl: Annotated[float | None, Positive] = None
    """Target KL of the adaptive coefficients, in nats: after each iteration η_k is doubled if the KL on
    support set k was above 1.5 × this, and halved if it was below this / 1.5. None for a fixed η, as in the
    paper's experiments."""

    def terms(self) -> dict[str, AbstractTerm]:
        coefficients = jnp.full(self.inner_steps, self.kl_coefficient, float)
        target = None if self.target_kl is None else jnp.asarray(self.target_kl, float)
        return {"support_kl": SupportKL(coefficients, target)}
