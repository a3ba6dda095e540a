"""E-MAML: MAML that credits the support set's actions with the return after adaptation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from surefoot.algorithms.gradient_meta import AbstractGradientMeta
from surefoot.options import NonNegative, UserError
from surefoot.theory.meta import AbstractTerm, Adapted, AdaptedPrediction
from surefoot.theory.objectives import AbstractObjective
from surefoot.types import MetaBatch


class Exploration(AbstractTerm):
    """−R̄_i Σ_k Σ_{e,t} log π_θk(a|s) over the support sets D_k of task i: the part of the meta-gradient that
    MAML omits (Stadie et al., 2018; Al-Shedivat et al., 2018).

    The return after adaptation, J_i(θ) = E_D0~π_θ0 … E_DK~π_θK [R(D_K)], depends on θ through the data too:

        ∇J_i = E[∇R_K(θ_K) + R̄(D_K) Σ_k ∇ log P(D_k|θ_k)],  log P(D_k|θ_k) = Σ_{e,t} log π_θk(a|s) + const.

    The first part is MAML's. The second is a sum over every episode and step of the support sets, not a mean.
    The outer loss is the mean over the query's steps of the advantages, in units of their standard deviation
    σ_i if they are normalised, and so estimates −J_i / (L_i σ_i) with L_i the mean length of a query episode:
    the term is divided by the same. R̄_i is taken less its mean over the other tasks, which changes no
    expectation. Ratios replace log-probabilities, log π_θk − log π_old, so that its value is zero at the old
    policy.
    """

    weight: Float[Array, ""]

    def prepare(
        self, objective: Adapted, policy: PyTree, batch: MetaBatch, returns: Float[Array, "task episode"]
    ) -> Float[Array, " task"]:
        """The credit of each task, (R̄_i − mean of the others' R̄) / (L_i σ_i)."""
        del objective, policy
        reached, tasks = jnp.mean(returns, axis=1), len(returns)
        others = (jnp.sum(reached) - reached) / max(tasks - 1, 1)
        query = batch.query
        length = jnp.sum(query.valid, axis=(1, 2)).astype(reached.dtype) / query.valid.shape[1]
        scale = 1.0 if query.advantage_scale is None else query.advantage_scale[:, 0, 0]
        return (reached - others) / (length * scale)

    def __call__(
        self,
        outer: AbstractObjective,
        prediction: AdaptedPrediction,
        batch: MetaBatch,
        prepared: Float[Array, ""],
    ) -> Float[Array, ""]:
        del outer
        total = jnp.zeros_like(prepared)
        for predicted, data in zip(prediction.support, batch.support, strict=True):
            log_ratios = predicted.log_prob(data.actions) - data.log_probs
            total += jnp.sum(jnp.where(data.valid, log_ratios, 0.0))
        return -self.weight * prepared * total

    def update(
        self, objective: Adapted, policy: PyTree, batch: MetaBatch, prepared: Float[Array, " task"]
    ) -> tuple["Exploration", Mapping[str, Float[Array, ""]]]:
        del objective, policy, batch
        return self, {"exploration_credit": jnp.sqrt(jnp.mean(prepared**2))}

    def after(self, earlier: "Exploration") -> "Exploration":
        del earlier
        return self


@dataclass(frozen=True)
class EMAML(AbstractGradientMeta):
    """E-MAML (Stadie et al., 2018): MAML with credit for exploration, the gradient through the sampling of
    the support sets."""

    part_name: ClassVar[str] = "e-maml"

    exploration: Annotated[float, NonNegative] = 1.0
    """Weight of the exploration term. 1 is the gradient of the return after adaptation, 0 is MAML."""

    def terms(self) -> dict[str, AbstractTerm]:
        """Raises `UserError` if the inner loss is `surrogate` or `dice`."""
        if self.inner_loss != "reinforce":
            raise UserError(
                "E-MAML's term is the effect of the policy on the support set, which the second derivative "
                f"of the inner loss {self.inner_loss} contains already: it would count twice. Use "
                "--inner-loss reinforce, or --algorithm maml."
            )
        return {"exploration": Exploration(jnp.asarray(self.exploration, float))}
