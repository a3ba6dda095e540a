"""Baselines: their effect on the bias and the variance of the policy gradient."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from surefoot.lab.base import AbstractExperiment, Claim, Result, ascends
from surefoot.lab.baseline_estimators import (
    BIASED,
    CAUSAL,
    ESTIMATORS,
    EXACT,
    FITTED,
    LIBRARY,
    NONE,
    PLAIN,
    UNBIASED,
    data_of,
)
from surefoot.lab.exact import all_trajectories, policy_gradient, step_scores
from surefoot.lab.figures import BLUE, COLOURS, GREEN, GREY, RED, Line, Panel
from surefoot.lab.problems import Episodes, Problem, ShortHorizon, SoftmaxTable, chain, chain_policy
from surefoot.lab.sampling import Quality, draw, in_batches, quality
from surefoot.options import at_least
from surefoot.theory.policy_gradient import optimal_baseline

KINDS = {
    "no baseline": (NONE, GREY),
    "exact": (EXACT, GREEN),
    "fitted to others": (FITTED, BLUE),
    "fitted to the same": (BIASED, RED),
}
ORDERS = {
    "none to the mean return to the optimal constant": (
        PLAIN,
        f"{PLAIN}, constant, exact",
        f"{PLAIN}, optimal constant, exact",
    ),
    "the whole return to the reward-to-go, to a baseline of time, to one of time and state": (
        PLAIN,
        CAUSAL,
        f"{CAUSAL}, of time, exact",
        f"{CAUSAL}, of time and state, exact",
    ),
}
ESTIMATES = {
    f"{PLAIN}, constant": f"{PLAIN}, constant, exact",
    f"{PLAIN}, optimal constant": f"{PLAIN}, optimal constant, exact",
    f"{CAUSAL}, time-dependent": f"{CAUSAL}, of time, exact",
    f"{CAUSAL}, linear-features": f"{CAUSAL}, of time and state, exact",
}
"""Fitted baselines, and the exact ones that they estimate."""


class ConstantBaselines(eqx.Module):
    """The exact variance of plain REINFORCE with constant baselines."""

    constants: Float[Array, " constants"]
    variances: Float[Array, "constants parameters"]
    optimal: Float[Array, " parameters"]
    least: Float[Array, " parameters"]
    """The variances at `optimal`."""


@dataclass(frozen=True)
class Baselines(AbstractExperiment):
    """Baselines: the bias and variance of each, and of reward-to-go against the whole return.

    The problem is a chain of three states; the gradient is known exactly. Each estimator makes an estimate of
    each of many small batches. The baselines are exact ones, those of `surefoot.baselines`, fitted to the
    one-hot states and times of other episodes, and two that are fitted to the same episodes. The theory: a
    baseline that does not depend on the action leaves the gradient unbiased (Williams, 1992); so does leaving
    out the rewards before the action; and of all constants Σ ψ²R / Σ ψ², with the scores ψ, has the least
    variance, for each parameter (Greensmith et al., 2004).
    """

    horizon: Annotated[int, ShortHorizon] = 6
    """Steps in an episode."""
    episodes: Annotated[int, at_least(2)] = 10
    """Episodes in a batch. Baselines that are fitted to other episodes are fitted to one fewer."""
    batches: Annotated[int, at_least(100)] = 8000
    """Number of batches."""

    def measure(self, seed: int) -> Result:
        truth, constants = policy_gradient(*self.start()), constant_baselines(*self.start())
        estimates = self.estimate(constants.optimal, seed)
        found = {name: quality(estimates[name], truth, self.episodes) for name in ESTIMATORS}
        plain = found[PLAIN].variance
        rows = [(name, *astuple(q), q.variance / plain) for name, q in found.items()]
        columns = ("estimator", "bias", "its standard error", "p-value", "variance", "relative to plain")
        title = "Baselines: bias and variance of the policy gradient"
        return Result(title, columns, rows, _panels(found, constants), claims(found, constants))

    def start(self) -> tuple[Problem, SoftmaxTable]:
        """The problem and the policy whose gradient is estimated."""
        return chain(self.horizon), chain_policy()

    def estimate(
        self, optimal: Float[Array, " parameters"], seed: int
    ) -> dict[str, Float[Array, "batch parameters"]]:
        """The estimates of every estimator, all from the same batches; `optimal` is the optimal constant."""
        problem, policy = self.start()
        episodes_key, start_key = jax.random.split(jax.random.key(seed))

        def of_one(episodes: Episodes) -> dict[str, Array]:
            data = data_of(problem, policy, optimal, episodes, start_key)
            return {name: estimator(data) for name, estimator in ESTIMATORS.items()}

        return in_batches(of_one, draw(problem, policy, episodes_key, (self.batches, 2 * self.episodes - 1)))


def constant_baselines(problem: Problem, policy: SoftmaxTable, count: int = 41) -> ConstantBaselines:
    """Var[s (R − b)] of each parameter for constants b over the range of the returns, by enumeration."""
    episodes, chances = all_trajectories(problem, policy)
    returns = episodes.rewards @ problem.discount_powers
    scores = step_scores(policy, episodes).sum(axis=1)
    # The roots of the probabilities are the weights, because the formula squares them.
    optimal = optimal_baseline(jnp.sqrt(chances)[:, None] * scores, returns)

    def variances(b: Array) -> Array:
        terms = scores * (returns[:, None] - b)
        return chances @ terms**2 - (chances @ terms) ** 2

    constants = jnp.linspace(returns.min(), returns.max(), count)
    return ConstantBaselines(constants, jax.vmap(variances)(constants), optimal, variances(optimal))


def claims(found: Mapping[str, Quality], constants: ConstantBaselines) -> list[Claim]:
    """The claims, from the qualities of all estimators."""
    worst = min(UNBIASED, key=lambda name: found[name].p_value)
    ratio = {name: q.variance / found[PLAIN].variance for name, q in found.items()}
    saved = {
        name: 1 - ratio[name] / ratio[none] for none in NONE for name in LIBRARY if name.startswith(none)
    }
    least = min(saved, key=lambda name: saved[name])
    excess = float(np.max(constants.least / np.min(constants.variances, axis=0)) - 1)
    errors = [found[name].bias / found[name].standard_error for name in BIASED]
    return [
        Claim(
            "Without a baseline, with exact ones and with those fitted to other episodes, the mean is within "
            "the 99.99% confidence region of the exact gradient (χ²)",
            all(found[name].unbiased for name in UNBIASED),
            f"least p-value {found[worst].p_value:.2g} of {len(UNBIASED)} ({worst})",
        ),
        Claim(
            "With a baseline fitted to the same episodes the mean is outside of that region: it is biased",
            not any(found[name].unbiased for name in BIASED),
            ", ".join(f"{x:.0f} standard errors" for x in errors),
        ),
        Claim(
            "Each of the library's baselines, fitted to other episodes, leaves at least a tenth less "
            "variance than no baseline with the same credit",
            all(x >= 0.1 for x in saved.values()),
            f"{saved[least]:.0%} less, at least, of {len(saved)} ({least})",
        ),
        *(
            Claim(
                f"Variance falls from {steps}, with exact baselines",
                ascends([ratio[name] for name in reversed(order)]),
                " > ".join(f"{ratio[name]:.3f}" for name in order),
            )
            for steps, order in ORDERS.items()
        ),
        Claim(
            "Baselines estimated from other episodes leave more variance than the exact ones they estimate: "
            "constants, values of time, values of time and state",
            all(ratio[name] > ratio[known] for name, known in ESTIMATES.items()),
            ", ".join(f"{ratio[name]:.3f} > {ratio[known]:.3f}" for name, known in ESTIMATES.items()),
        ),
        Claim(
            "For every parameter the optimal constant has the least variance (by enumeration, to 1e-9)",
            excess <= 1e-9,
            f"{1 + excess:.5f} of the least among {len(constants.constants)} constants, at most",
        ),
    ]


def _panels(found: Mapping[str, Quality], constants: ConstantBaselines) -> list[Panel]:
    names = list(found)
    bars, biases, curves = [], [], []
    for kind, (members, colour) in KINDS.items():
        at, of = [names.index(name) for name in members], [found[name] for name in members]
        bars.append(Line([q.variance / found[PLAIN].variance for q in of], at, kind, colour, "bars"))
        biases.append(Line([q.bias / q.standard_error for q in of], at, "", colour, "bars"))
    rows = (len(names) - 0.4, -0.6)
    biases.append(Line((1.0, 1.0), rows, "expected by chance", "black", "--"))
    for i, colour in zip(range(0, constants.variances.shape[1], 2), COLOURS, strict=False):
        curves.append(Line(constants.constants, constants.variances[:, i], f"state {i // 2}", colour))
        curves.append(Line(constants.optimal[i : i + 1], constants.least[i : i + 1], "", colour, "o"))
    ticks = {"ylim": rows, "yticks": range(len(names)), "yticklabels": names}
    errors = {"ylim": rows, "yticks": [], "xscale": "log", "xlim": (0.2, None)}
    return [
        Panel("Variance", "relative to plain REINFORCE", "", bars, ticks),
        Panel("Bias", "standard errors", "", biases, errors),
        Panel("Exact variance with a constant", "b", "Var[ψ (R − b)]", curves),
    ]
