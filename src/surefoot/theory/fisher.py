"""Products of the Fisher information matrix with vectors.

*Is the KL not always zero?* At the old policy, yes: its value there is zero, and so is its gradient. Its
second derivative is not: it is the Fisher information matrix F, which a trust region needs, since KL(θ ‖ θ +
Δθ) ≈ ½ ΔθᵀFΔθ.
"""

import equinox as eqx
import jax
from jaxtyping import PyTree

from surefoot.theory.objectives import AbstractObjective


def fisher_vector_product(
    objective: AbstractObjective, policy: PyTree, batch: PyTree, vector: PyTree
) -> PyTree:
    """F v = Jᵀ M J v, with J the derivative of the predictions in the parameters and M the Hessian of the
    divergence in the *predictions*, both at `policy`. `vector` and the result are shaped like the policy's
    floating-point arrays.

    The Hessian of the divergence in the parameters is JᵀMJ plus terms that multiply its slope in the
    predictions. That slope is zero here, so J is needed to first order only, whatever `predict` does, an
    adaptation included. It takes one linearisation and its transpose instead of a second derivative through
    the network (the Gauss-Newton product; Schraudolph, 2002).
    """
    parameters, static = eqx.partition(policy, eqx.is_inexact_array)

    def on(part: PyTree) -> PyTree:
        def predict(parameters: PyTree) -> PyTree:
            return objective.predict(eqx.combine(parameters, static), part)

        prediction, push_forward = jax.linearize(predict, parameters)
        slope = jax.grad(lambda new: objective.divergence(prediction, new, part))
        _, cotangent = jax.jvp(slope, (prediction,), (push_forward(vector),))
        (product,) = jax.linear_transpose(push_forward, parameters)(cotangent)
        return product

    return objective.average(on, batch)
